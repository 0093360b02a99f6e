// The convolutions of conv2d_3x3.cu by the instructions of compute capability 9.0, in the same order of additions.
//
// Idea: the tensor cores read both operands in shared memory, so that a warp issues a few instructions for what takes thousands of cycles.
// The stretch (conv2d_3x3.cuh) lies there place by place, 16 bytes for each half of a slice, and a tap is a shift of the address at which
// the operand begins. A block of four warps owns 64 output channels and a run of 256 or 128 places, those between images included, whose
// results nobody stores: 6 % of the work at 32 × 32 pixels, 21 % at 8 × 8. Weights arrive by bulk copy, a row of three taps at a time,
// in a ring of three; a row's next copy begins when the four warps have said that their products with it are done. Pixels pass through
// registers, which round them, between the products of one slice and those of the next.
//
// Cost of a tap with 128 places: 2 KiB of weights and 4 KiB of pixels from shared memory, 48 cycles, where the arithmetic takes 64; fetching the
// next slice adds 10 to 14. A warp issues 29 to 46 instructions of the wide tile for what 16 mma are elsewhere, which take 64 cycles. Two or
// three blocks share a multiprocessor: one's barriers are hidden by the others' products.
#include "conv2d_3x3.cuh"
#include "hopper.cuh"

#ifdef HAS_HOPPER

template <class Format_, int RUNS_>
struct WarpgroupTile {
    using Format = Format_;
    static constexpr int M = 64, RUNS = RUNS_, N = 128 * RUNS, THREADS = 128;
    // The longest stretch: images are up to 58 pixels wide.
    static constexpr int SPAN = N + 120;
    static constexpr int EACH = (SPAN + THREADS - 1) / THREADS;
};

template <class Format>
using WideTile = WarpgroupTile<Format, 2>;
template <class Format>
using NarrowTile = WarpgroupTile<Format, 1>;

// Half of a slice: four words.
constexpr int HALF = DEEP / 2;
// Bytes of weights: of a tap, and of the row of taps that is copied at a time.
constexpr u32 TAP_BYTES = PACKED_ROWS * DEEP * sizeof(u32);
constexpr u32 ROW_BYTES = 3 * TAP_BYTES;

template <class Tile>
struct WarpgroupMemory {
    union {
        struct {
            alignas(128) u32 stretches[2][2][Tile::SPAN][HALF];
            alignas(128) u32 weights[3][ROW_BYTES / sizeof(u32)];
        };
        // Behind the last product, of eight channels of each warp; rows are 8 banks apart.
        float results[4][8][Tile::N + 8];
    };
    PhaseBarrier arrived[3], used[3];
};

__device__ __forceinline__ void multiply_shared(Tf32, float (&sum)[64], SharedRows a, SharedRows b) { multiply_shared_tf32(sum, a, b); }
__device__ __forceinline__ void multiply_shared(Bf16, float (&sum)[64], SharedRows a, SharedRows b) { multiply_shared_bf16(sum, a, b); }
__device__ __forceinline__ void multiply_shared(F16, float (&sum)[64], SharedRows a, SharedRows b) { multiply_shared_f16(sum, a, b); }

// Stores each place that is a pixel.
template <class Tile>
__device__ __forceinline__ void store_places(const Conv& g, const PaddedRows& rows, int own, const float (&sum)[Tile::RUNS][64], const Outputs& output) {
    const int channel = blockIdx.y * Tile::M + warp() * 16 + lane() / 4;
    const bool exists[2] = {channel < g.c_out, channel + 8 < g.c_out};
    const float shift[2] = {exists[0] ? output.shift(channel) : 0.0f, exists[1] ? output.shift(channel + 8) : 0.0f};
    const u32 area = u32(g.out_h * g.out_w);
#pragma unroll
    for (int run = 0; run < Tile::RUNS; ++run)
#pragma unroll
        for (int eight = 0; eight < 16; ++eight) {
            Pixel p = rows.pixel(own + 128 * run + 8 * eight + lane() % 4 * 2);
#pragma unroll
            for (int x = 0; x < 2; ++x) {
                if (p.image < g.n && p.y < g.h && p.x < g.w) {
                    const u32 at = (u32(p.image) * u32(g.c_out) + u32(channel)) * area + u32(p.y * g.out_w + p.x);
                    if (exists[0]) output.store_at(at, sum[run][4 * eight + x] + shift[0]);
                    if (exists[1]) output.store_at(at + 8 * area, sum[run][4 * eight + 2 + x] + shift[1]);
                }
                p = rows.next(p);
            }
        }
}

// Stores the pooling windows of so many pairs of rows from `pair` on, pairs counted over all images. A window's places lie with several
// lanes, so they pass through shared memory.
template <class Tile>
__device__ __forceinline__ void store_windows(const Conv& g, const PaddedRows& rows, int own, int pair, int pairs, const float (&sum)[Tile::RUNS][64],
                                              const PooledOutputs& output, float (&results)[4][8][Tile::N + 8]) {
    const int per_row = g.pooled_w(), all = g.n * g.pooled_h() * per_row;
    const int begin = pair * per_row, end = min(begin + pairs * per_row, all);
#pragma unroll  // Registers have no addresses.
    for (int eight = 0; eight < 2; ++eight) {
        __syncthreads();  // All are done with what was here.
#pragma unroll
        for (int run = 0; run < Tile::RUNS; ++run)
#pragma unroll
            for (int i = 0; i < 32; ++i)
                results[warp()][lane() / 4][128 * run + i / 2 * 8 + lane() % 4 * 2 + i % 2] = sum[run][i / 2 * 4 + 2 * eight + i % 2];
        __syncthreads();
        for (int window = begin + lane(); window < end; window += WARP) {
            const int at = rows.at(output_pixel<true>(g, 4 * window)) - own;
            for (int row = 0; row < 8; ++row) {
                const int channel = blockIdx.y * Tile::M + warp() * 16 + 8 * eight + row;
                const float* upper = &results[warp()][row][at];
                const float* lower = upper + rows.pitch;
                if (channel < g.c_out) output.store(g, channel, 4 * window, {upper[0], upper[1], lower[0], lower[1]});
            }
        }
    }
}

// One tile of a convolution of `source`, which has c_in channels; `pairs` rows of pooling windows are in a tile, if it is of those.
template <class Tile, bool WINDOWS, class Source, class Output>
__device__ __forceinline__ void product_3x3_wgmma(const Conv& g, const PaddedRows& rows, const Source& source, const u32* weights, const Output& output,
                                                  int pairs) {
    auto& memory = shared_memory<WarpgroupMemory<Tile>>();
    const int slices = (g.c_in + DEEP * Tile::Format::IN_A_WORD - 1) / (DEEP * Tile::Format::IN_A_WORD);
    const u32* const own_weights = weights + blockIdx.y * u32(slices * TAPS * PACKED_ROWS * DEEP);
    const bool leads = threadIdx.x == 0;
    const auto copy_weights = [&](int slice, int ky) {
        const u32* from = own_weights + u32(slice * 3 + ky) * (ROW_BYTES / sizeof(u32));
        arrive_with_copy(memory.arrived[ky], memory.weights[ky], from, ROW_BYTES);
    };
    if (leads) {
        for (int ky = 0; ky < 3; ++ky) make_barrier(memory.arrived[ky], 1), make_barrier(memory.used[ky], Tile::THREADS / WARP);
        barriers_are_made();
        for (int ky = 0; ky < 3; ++ky) copy_weights(0, ky);
    }

    // Without windows tiles lie one after another from the first image's first row on.
    const int pair = blockIdx.x * pairs;
    const int own = WINDOWS ? rows.at(output_pixel<true>(g, 4 * pair * g.pooled_w())) : rows.pitch + int(blockIdx.x) * Tile::N;
    const int first = own - rows.pitch - 1;
    const Places<typename Tile::Format, Tile::EACH, Source> places(g, rows, source, first + int(threadIdx.x), Tile::THREADS);
    u32 fetched[Tile::EACH][HALF];
    // Begins to bring half of a slice; store() ends it, some work later.
    const auto begin = [&](int slice, int half) {
#pragma unroll
        for (int i = 0; i < Tile::EACH; ++i)
#pragma unroll
            for (int word = 0; word < HALF; ++word) fetched[i][word] = places.word(slice * DEEP + half * HALF + word, i);
    };
    const auto store = [&](int slice, int half) {
#pragma unroll
        for (int i = 0; i < Tile::EACH; ++i) {
            const int at = int(threadIdx.x) + i * Tile::THREADS;
            if (at < rows.longest) store_words(memory.stretches[slice % 2][half][at], fetched[i][0], fetched[i][1], fetched[i][2], fetched[i][3]);
        }
    };
    for (int half = 0; half < 2; ++half) begin(0, half), store(0, half);

    float sum[Tile::RUNS][64] = {};
    const auto pin = [&] {
#pragma unroll
        for (int run = 0; run < Tile::RUNS; ++run) pin_sums(sum[run]);
    };
    pin();
    for (int slice = 0; slice < slices; ++slice) {
        const bool more = slice + 1 < slices;
        const u32 parity = slice % 2;
        show_to_products();
        __syncthreads();  // The slice is there, and all products with the one before are done, whose place the next one takes.
        const SharedRows stretch(memory.stretches[slice % 2], Tile::SPAN * HALF * sizeof(u32), 8 * HALF * sizeof(u32));
#pragma unroll
        for (int ky = 0; ky < 3; ++ky) {
            wait_for_phase(memory.arrived[ky], parity);
            const SharedRows row(memory.weights[ky], 8 * HALF * sizeof(u32), 16 * HALF * sizeof(u32));
            rejoin();
            begin_products();
#pragma unroll
            for (int kx = 0; kx < 3; ++kx)
#pragma unroll
                for (int run = 0; run < Tile::RUNS; ++run) {
                    const SharedRows pixels(stretch, u32(ky * rows.pitch + kx + 128 * run) * u32(HALF * sizeof(u32)));
                    multiply_shared(typename Tile::Format(), sum[run], SharedRows(row, kx * TAP_BYTES), pixels);
                }
            commit_products();
            if (!more) continue;
            if (ky > 0) {
                store(slice + 1, ky - 1);
                wait_products<1>();
                if (lane() == 0) arrive(memory.used[ky - 1]);
                if (leads) wait_for_phase(memory.used[ky - 1], parity), copy_weights(slice + 1, ky - 1);
            }
            if (ky < 2) begin(slice + 1, ky);
        }
        rejoin();
        wait_products<0>();
        pin();
        if (more && lane() == 0) arrive(memory.used[2]);
        if (more && leads) wait_for_phase(memory.used[2], parity), copy_weights(slice + 1, 2);
    }

    if constexpr (Tile::Format::SCALES) multiply_all(sum, g.gradient_scale.back);
    if constexpr (WINDOWS)
        store_windows<Tile>(g, rows, own, pair, pairs, sum, output, memory.results);
    else
        store_places<Tile>(g, rows, own, sum, output);
}

#define FOR_TILE(WIDTH, FORMAT, TILE, BLOCKS)                                                                                       \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS)                                                                       \
        conv2d_3x3_wgmma_##WIDTH##_##FORMAT(Conv g, PaddedRows rows, const float* x, const u32* weights, const float* bias, int clip, float* y) { \
        product_3x3_wgmma<TILE, false>(g, rows, DenseGradient{x}, weights, Outputs{bias, clip, y}, 0);                              \
    }                                                                                                                               \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS) conv2d_3x3_relu_pool_wgmma_##WIDTH##_##FORMAT(                        \
        Conv g, PaddedRows rows, const float* x, const u32* weights, const float* bias, float* y, u8* winners, int pairs) {         \
        product_3x3_wgmma<TILE, true>(g, rows, DenseGradient{x}, weights, PooledOutputs{bias, y, winners}, pairs);                  \
    }                                                                                                                               \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS) conv2d_3x3_pooled_grad_input_wgmma_##WIDTH##_##FORMAT(                \
        Conv g, PaddedRows rows, const float* dy, const u8* winners, const u32* weights, float* dx) {                               \
        product_3x3_wgmma<TILE, false>(g, rows, PooledGradient{dy, winners}, weights, Outputs{nullptr, 0, dx}, 0);                  \
    }

FOR_TILE(wide, tf32, WideTile<Tf32>, 2)
FOR_TILE(narrow, tf32, NarrowTile<Tf32>, 3)
FOR_TILE(wide, bf16, WideTile<Bf16>, 2)
FOR_TILE(narrow, bf16, NarrowTile<Bf16>, 3)
FOR_TILE(wide, f16, WideTile<F16>, 2)
FOR_TILE(narrow, f16, NarrowTile<F16>, 3)

#endif
