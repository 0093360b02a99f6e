// 3 × 3 convolutions with stride 1 and padding 1 on tensor cores, forward and for the input gradient, which is the same convolution of the
// output's gradient with mirrored weights (conv2d_3x3.cuh has the idea).
//
// A block of 4 warps owns 64 or 32 output channels and 128 pixels, 32 for each warp. While a slice of channels is multiplied the next one
// is fetched, a row of words a tap, so that one barrier a slice is enough. Weights are packed beforehand in the order in which lanes hold them
// (conv2d_3x3_weights): 16 bytes a lane and load, from the first-level cache, where all warps and all blocks of a multiprocessor find the
// same ones. Sums run over slices, taps, and channels within a slice, whatever the tile: both tiles give the same bits.
//
// Cost of a tap with 64 channels, for a warp's 16 mma: 4 loads of weights and 8 words a lane from shared memory, 24 wavefronts, so that 4
// warps keep shared memory and cache busy for 96 cycles; an A100's arithmetic takes 128 and an H100's 64 (TF32; shorter formats add up twice the
// channels in that time). Banks: a lane reads row lane % 4, column lane / 4, and rows are 8 banks apart.
#include "conv2d_3x3.cuh"

template <class Format_, int M_>
struct Tile3x3 {
    using Format = Format_;
    static constexpr int M = M_, N = 128, THREADS = 128;
    // The longest stretch, 8 banks more than a multiple of 32.
    static constexpr int SPAN = 328;
};
template <class Format>
using WideTile = Tile3x3<Format, 64>;
template <class Format>
using NarrowTile = Tile3x3<Format, 32>;

template <class Tile>
struct Stretches {
    u32 of[2][DEEP][Tile::SPAN];
};

// Brings rows of words into shared memory.
template <class Tile, class Source>
struct Fetch {
    static constexpr int EACH = (Tile::SPAN + Tile::THREADS - 1) / Tile::THREADS;
    Places<typename Tile::Format, EACH, Source> places;
    int longest;
    u32 fetched[EACH];

    __device__ __forceinline__ Fetch(const Conv& g, const PaddedRows& rows, const Source& source, int first)
        : places(g, rows, source, first + int(threadIdx.x), Tile::THREADS), longest(rows.longest) {}

    // Begins to bring a row of words; store() ends it, some work later.
    __device__ __forceinline__ void begin(int row) {
#pragma unroll
        for (int i = 0; i < EACH; ++i) fetched[i] = places.word(row, i);
    }
    __device__ __forceinline__ void store(u32* row) const {
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
            const int at = int(threadIdx.x) + i * Tile::THREADS;
            if (at < longest) row[at] = fetched[i];
        }
    }
};

// One tile of a convolution of `source`, which has c_in channels.
template <class Tile, bool WINDOWS, class Source, class Output>
__device__ __forceinline__ void product_3x3(const Conv& g, const PaddedRows& rows, const Source& source, const u32* weights, const Output& output) {
    constexpr int MS = Tile::M / 16, NS = 4;
    const int q0 = blockIdx.x * Tile::N, own = q0 + warp() * 32, count = output_pixels<WINDOWS>(g);
    const int first = rows.at(output_pixel<WINDOWS>(g, q0)) - rows.pitch - 1;
    auto& stretches = shared_memory<Stretches<Tile>>().of;
    Fetch<Tile, Source> fetch(g, rows, source, first);

    // Of each eight columns this lane reads one. With windows, columns of four windows' upper rows come first, then of their lower rows.
    u32 column[NS];
#pragma unroll
    for (int n = 0; n < NS; ++n) {
        const int g8 = lane() / 4, q = WINDOWS ? own + n / 2 * 16 + g8 / 2 * 4 + n % 2 * 2 + g8 % 2 : own + n * 8 + g8;
        const Pixel p = output_pixel<WINDOWS>(g, min(q, count - 1));
        column[n] = u32(lane() % 4 * Tile::SPAN + rows.at(p) - first - rows.pitch - 1);
    }

    const int slices = (g.c_in + DEEP * Tile::Format::IN_A_WORD - 1) / (DEEP * Tile::Format::IN_A_WORD);
    const int m0 = blockIdx.y * Tile::M;
    constexpr int OF_A_TAP = PACKED_ROWS / 16 * 128;
    u32 a_at = u32(m0 / PACKED_ROWS) * u32(slices * TAPS * OF_A_TAP) + u32(m0 % PACKED_ROWS / 16 * 128 + lane() * 4);
    u32 a[MS][4];
    const auto load_weights = [&](int tap) {
#pragma unroll
        for (int m = 0; m < MS; ++m) load_words(weights + a_at + tap * OF_A_TAP + m * 128, a[m]);
    };
    for (int row = 0; row < DEEP; ++row) {
        fetch.begin(row);
        fetch.store(stretches[0][row]);
    }

    float sum[MS][NS][4] = {};
    for (int slice = 0; slice < slices; ++slice) {
        __syncthreads();  // The slice is there, and all are done with the one before, whose place the next one takes.
        const u32* from = stretches[slice % 2][0];
        auto& into = stretches[(slice + 1) % 2];
        const bool more = slice + 1 < slices;
#pragma unroll 1
        for (int ky = 0; ky < 3; ++ky) {
#pragma unroll
            for (int kx = 0; kx < 3; ++kx) {
                const int tap = 3 * ky + kx;
                load_weights(tap);
                if (tap < DEEP && more) fetch.begin((slice + 1) * DEEP + tap);
                u32 b[NS][2];
#pragma unroll
                for (int n = 0; n < NS; ++n) {
                    const u32* at = from + column[n] + u32(ky * rows.pitch) + kx;
                    b[n][0] = at[0], b[n][1] = at[4 * Tile::SPAN];
                }
#pragma unroll
                for (int m = 0; m < MS; ++m)
#pragma unroll
                    for (int n = 0; n < NS; ++n) Tile::Format::multiply(sum[m][n], a[m], b[n]);
                if (tap < DEEP && more) fetch.store(into[tap]);
            }
        }
        a_at += TAPS * OF_A_TAP;
    }

    if constexpr (Tile::Format::SCALES) multiply_all(sum, g.gradient_scale.back);
    const auto store = [&](int channel, int q, float4 v) {
        if (channel < g.c_out) output.store(g, channel, q, v);
    };
    if constexpr (WINDOWS) {
        const int channel = m0 + lane() / 4, q = own + lane() % 4 * 4;
#pragma unroll
        for (int m = 0; m < MS; ++m)
#pragma unroll
            for (int n = 0; n < NS; n += 2) {
                const float(&upper)[4] = sum[m][n];
                const float(&lower)[4] = sum[m][n + 1];
                store(channel + 16 * m, q + 8 * n, float4{upper[0], upper[1], lower[0], lower[1]});
                store(channel + 16 * m + 8, q + 8 * n, float4{upper[2], upper[3], lower[2], lower[3]});
            }
    } else {
        store_sums(sum, m0, own, store);
    }
}

#define FOR_TILE(WIDTH, FORMAT, TILE, BLOCKS)                                                                                 \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                                                 \
        conv2d_3x3_##WIDTH##_##FORMAT(Conv g, PaddedRows rows, const float* x, const u32* weights, const float* bias, int clip, float* y) { \
        product_3x3<TILE, false>(g, rows, DenseGradient{x}, weights, Outputs{bias, clip, y});                                 \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS) conv2d_3x3_relu_pool_##WIDTH##_##FORMAT(                        \
        Conv g, PaddedRows rows, const float* x, const u32* weights, const float* bias, float* y, u8* winners) {              \
        product_3x3<TILE, true>(g, rows, DenseGradient{x}, weights, PooledOutputs{bias, y, winners});                         \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                                                 \
        conv2d_3x3_pooled_grad_input_##WIDTH##_##FORMAT(Conv g, PaddedRows rows, const float* dy, const u8* winners, const u32* weights, float* dx) { \
        product_3x3<TILE, false>(g, rows, PooledGradient{dy, winners}, weights, Outputs{nullptr, 0, dx});                     \
    }

FOR_TILE(wide, tf32, WideTile<Tf32>, 3)
FOR_TILE(narrow, tf32, NarrowTile<Tf32>, 4)
FOR_TILE(wide, bf16, WideTile<Bf16>, 3)
FOR_TILE(narrow, bf16, NarrowTile<Bf16>, 4)
FOR_TILE(wide, f16, WideTile<F16>, 3)
FOR_TILE(narrow, f16, NarrowTile<F16>, 4)

// Weights, `n` words, zeros where there are none: [rows in groups of 64][slice][tap], then in the order in which lanes hold them, [16 rows][lane][4],
// or by rows for four warps together, [8 rows][half of the slice][row][4]. `format`: 0 TF32, 1 bfloat16, 2 half precision. The forward pass has a row for each output channel; the input gradient has one for each input channel, and mirrored taps.
template <class Format>
__device__ __forceinline__ void pack_weights(const float* weight, int rows, int channels, int backward, int by_rows, u32* packed, u32 n) {
    const u32 slices = (channels + DEEP * Format::IN_A_WORD - 1) / (DEEP * Format::IN_A_WORD);
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const int r = i % 4, tap = i / (DEEP * PACKED_ROWS) % TAPS;
        const u32 slice_number = i / (DEEP * PACKED_ROWS * TAPS);
        const int row_of_64 = by_rows ? i / 64 % 8 * 8 + i / 4 % 8 : i / 128 % 4 * 16 + i / 16 % 8 + r % 2 * 8;
        const int word_of_8 = by_rows ? i / 32 % 2 * 4 + r : i / 4 % 4 + r / 2 * 4;
        const int row = slice_number / slices * PACKED_ROWS + row_of_64;
        const int word = slice_number % slices * DEEP + word_of_8;
        packed[i] = word_of<Format>(word, [&](int channel) {
            if (row >= rows || channel >= channels) return 0.0f;
            return backward ? weight[(channel * rows + row) * TAPS + TAPS - 1 - tap] : weight[(row * channels + channel) * TAPS + tap];
        });
    }
}

extern "C" __global__ void __launch_bounds__(256)
    conv2d_3x3_weights(const float* weight, int rows, int channels, int backward, int format, int by_rows, u32* packed, u32 n) {
    if (format == 0)
        pack_weights<Tf32>(weight, rows, channels, backward, by_rows, packed, n);
    else if (format == 1)
        pack_weights<Bf16>(weight, rows, channels, backward, by_rows, packed, n);
    else
        pack_weights<F16>(weight, rows, channels, backward, by_rows, packed, n);
}
