// Weight gradients of 3 × 3 convolutions with stride 1 and padding 1 on tensor cores (conv2d_3x3.cuh has the idea): for each tap a product
// [c_out × places] · [places × c_in], where places are those of the stretch that goes through all images, zeros included: there the
// output has no gradient. (So a pixel that is infinite makes the tap beside it NaN, where there are only infinities otherwise.)
//
// A block of 8 or 4 warps owns 64 or 32 output channels, 32 input channels and all nine taps, a warp 32 × 8 of them. It brings the
// gradients of 64 places and the pixels around them into shared memory, and the taps read the same pixels, each shifted. In 16 bits a word
// holds two neighbouring places, so that pixels stand there twice, from an even place on and from an odd one; rows have an even pitch.
// Two or more blocks on a multiprocessor hide each other's fetching. The places are split among blocks, whose sums a second kernel adds in
// order; sums lie as [split][tap][c_out][c_in], so that lanes write whole sectors.
//
// Cost of 8 words of places, for a warp's 18 mma: 2 ldmatrix and 18 words a lane, 26 wavefronts. Banks: rows are 4 words further than a
// multiple of 32, and a lane reads row lane / 4, word lane % 4.
#include "conv2d_3x3.cuh"

template <class Format_, int WARPS_OUT>
struct WeightTile {
    using Format = Format_;
    static constexpr int OUT = 32 * WARPS_OUT, IN = 32, WARPS = 4 * WARPS_OUT, THREADS = 32 * WARPS;
    static constexpr int PLACES = 64, WORDS = PLACES / Format::IN_A_WORD;
    // A row of gradients, and of pixels around them: the longest that fits a pitch of 66.
    static constexpr int GRADIENTS = WORDS + 4, PIXELS = Format::IN_A_WORD == 1 ? 196 : 100;
};

template <class Tile>
struct WeightSlice {
    u32 gradients[Tile::OUT][Tile::GRADIENTS];
    u32 pixels[Tile::Format::IN_A_WORD][Tile::IN][Tile::PIXELS];
};

// Calls store(channel, word, values) for `count` words of CHANNELS channels from `first` on, where values are the word's numbers and one more.
// ABREAST threads take neighbouring words of the same channels.
template <class Tile, int CHANNELS, int ABREAST, class Source, class Store>
__device__ __forceinline__ void bring(const Conv& g, const PaddedRows& rows, const Source& source, Scale scale, int channels, int channel0,
                                      int first, int count, Store store) {
    constexpr int NUMBERS = Tile::Format::IN_A_WORD == 1 ? 1 : 3, GROUPS = Tile::THREADS / ABREAST;
    constexpr int AT_ONCE = 8 / Tile::Format::IN_A_WORD;  // As many loads under way as registers allow.
    const u32 plane = u32(Source::plane(g));
    for (int word = threadIdx.x % ABREAST; word < count; word += ABREAST) {
        u32 place[NUMBERS];
        int what[NUMBERS];
#pragma unroll
        for (int i = 0; i < NUMBERS; ++i)
            what[i] = rows.locate(g, source, channels, first + word * Tile::Format::IN_A_WORD + i, place[i]);
#pragma unroll AT_ONCE
        for (int i = 0; i < CHANNELS / GROUPS; ++i) {
            const int channel = i * GROUPS + int(threadIdx.x) / ABREAST;
            // A channel that does not exist: its sums, whatever they are, are not written.
            const u32 offset = u32(min(channel0 + channel, channels - 1)) * plane;
            float values[NUMBERS];
#pragma unroll
            for (int j = 0; j < NUMBERS; ++j) values[j] = scaled<typename Tile::Format>(source.value(place[j] + offset, what[j]), scale);
            store(channel, word, values);
        }
    }
}

template <class Tile, class Source>
__device__ __forceinline__ void weight_sums(const Conv& g, const PaddedRows& rows, const float* x, const Source& gradient, int stretch,
                                            float* sums) {
    using Format = typename Tile::Format;
    constexpr int IN_A_WORD = Format::IN_A_WORD;
    auto& slice = shared_memory<WeightSlice<Tile>>();
    const int out0 = blockIdx.y * Tile::OUT, in0 = blockIdx.x * Tile::IN, split = blockIdx.z;
    const int places = g.n * rows.height * rows.pitch, begin = split * stretch, end = min(begin + stretch, places);
    const int warp_out = warp() / 4 * 32, warp_in = warp() % 4 * 8;
    const int around = (rows.longest + IN_A_WORD - 1) / IN_A_WORD;

    float sum[2][TAPS][4] = {};
    for (int k0 = begin; k0 < end; k0 += Tile::PLACES) {
        __syncthreads();  // All are done with the slice before.
        // The first row of the stretch is zeros.
        bring<Tile, Tile::OUT, Tile::WORDS>(g, rows, gradient, g.gradient_scale, g.c_out, out0, rows.pitch + k0, Tile::WORDS,
                                            [&](int channel, int word, const float* values) {
                                                slice.gradients[channel][word] = word_of<Format>(0, [&](int i) { return values[i]; });
                                            });
        bring<Tile, Tile::IN, 128>(g, rows, DenseGradient{x}, Scale(), g.c_in, in0, k0 - 1, around,
                                   [&](int channel, int word, const float* values) {
#pragma unroll
                                       for (int odd = 0; odd < IN_A_WORD; ++odd)
                                           slice.pixels[odd][channel][word] = word_of<Format>(0, [&](int i) { return values[odd + i]; });
                                   });
        __syncthreads();
#pragma unroll 2
        for (int k = 0; k < Tile::WORDS; k += DEEP) {
            Matrices a[2];
#pragma unroll
            for (int m = 0; m < 2; ++m)
                a[m] = load_matrices(&slice.gradients[warp_out + 16 * m + lane() % 16][k + lane() / 16 * 4]);
#pragma unroll
            for (int tap = 0; tap < TAPS; ++tap) {
                const int ky = tap / 3, kx = tap % 3, at = k + lane() % 4 + ky * (rows.pitch / IN_A_WORD) + kx / IN_A_WORD;
                const u32* row = slice.pixels[kx % IN_A_WORD][warp_in + lane() / 4];
                const u32 b[2] = {row[at], row[at + 4]};
#pragma unroll
                for (int m = 0; m < 2; ++m) Format::multiply(sum[m][tap], a[m].of, b);
            }
        }
    }

    if constexpr (Format::SCALES) multiply_all(sum, g.gradient_scale.back);
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int tap = 0; tap < TAPS; ++tap)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int out = out0 + warp_out + 16 * m + lane() / 4 + i / 2 * 8, in = in0 + warp_in + lane() % 4 * 2 + i % 2;
                if (out < g.c_out && in < g.c_in)
                    sums[((u32(split) * TAPS + u32(tap)) * u32(g.c_out) + u32(out)) * u32(g.c_in) + u32(in)] = sum[m][tap][i];
            }
}

#define FOR_TILE(WIDTH, FORMAT, TILE, THREADS, BLOCKS)                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) conv2d_3x3_grad_weight_##WIDTH##_##FORMAT(                  \
        Conv g, PaddedRows rows, const float* x, const float* dy, int stretch, float* sums) {                                 \
        weight_sums<TILE>(g, rows, x, DenseGradient{dy}, stretch, sums);                                                      \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) conv2d_3x3_pooled_grad_weight_##WIDTH##_##FORMAT(           \
        Conv g, PaddedRows rows, const float* x, const float* dy, const u8* winners, int stretch, float* sums) {              \
        weight_sums<TILE>(g, rows, x, PooledGradient{dy, winners}, stretch, sums);                                            \
    }

using WideTf32 = WeightTile<Tf32, 2>;
using WideBf16 = WeightTile<Bf16, 2>;
using NarrowTf32 = WeightTile<Tf32, 1>;
using NarrowBf16 = WeightTile<Bf16, 1>;
using WideF16 = WeightTile<F16, 2>;
using NarrowF16 = WeightTile<F16, 1>;
FOR_TILE(wide, tf32, WideTf32, 256, 2)
FOR_TILE(narrow, tf32, NarrowTf32, 128, 4)
FOR_TILE(wide, bf16, WideBf16, 256, 2)
FOR_TILE(narrow, bf16, NarrowBf16, 128, 3)
FOR_TILE(wide, f16, WideF16, 256, 2)
FOR_TILE(narrow, f16, NarrowF16, 128, 3)

// Adds up the splits' sums, in order: n numbers [c_out, c_in, taps].
extern "C" __global__ void __launch_bounds__(256) conv2d_3x3_grad_weight_sum(const float* sums, float* dw, int splits, u32 channels, u32 n) {
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        float sum = 0.0f;
#pragma unroll 8
        for (int split = 0; split < splits; ++split) sum += sums[u32(split) * n + i];
        dw[i % channels * TAPS + i / channels] = sum;
    }
}
