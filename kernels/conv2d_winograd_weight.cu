// Weight gradients of 3 × 3 convolutions in f32 by minimal filtering (conv2d_winograd.cuh has the idea): for each place of a transformed patch a
// product [c_out × windows] · [windows × c_in].
//
// A block owns 32 output and 32 input channels and walks over the windows in slices of 8, neighbours in a row mostly. A thread fetches one
// patch of pixels and the gradients of one window of the next slice while the block multiplies, transforms both in registers and stores
// them between two barriers. The windows are split among blocks, whose sums [split][place][c_out][c_in] a second kernel adds in order
// and transforms back.
//
// Cost of a slice for a thread: 512 multiply-adds, which count as 1,152; 32 loads of 16 bytes from shared memory, 20 numbers from memory, 46 additions,
// 32 stores. Banks: rows of a window are 4 further than a multiple of 32, and a warp stores 4 channels of 8 windows at a time.
#include "conv2d_winograd.cuh"

constexpr int PITCH = ROWS + 4;

struct WinogradWeightMemory {
    float gradients[PLACES][DEEP][PITCH], patches[PLACES][DEEP][PITCH];
};

// The gradients of a window's four results: load() begins to fetch them, result() is what was fetched.
template <class Gradient>
struct WindowGradient;

template <>
struct WindowGradient<DenseGradient> {
    float fetched[2][2];

    __device__ __forceinline__ void load(const Conv& g, const DenseGradient& gradient, Pixel corner, int channel, bool exists) {
        const float* from = gradient.dy + (u32(corner.image * g.c_out + channel) * u32(g.out_h) + u32(corner.y)) * u32(g.out_w) + u32(corner.x);
        const bool right = corner.x + 1 < g.out_w, below = corner.y + 1 < g.out_h;
        fetched[0][0] = exists ? from[0] : 0.0f, fetched[0][1] = exists && right ? from[1] : 0.0f;
        fetched[1][0] = exists && below ? from[g.out_w] : 0.0f, fetched[1][1] = exists && below && right ? from[g.out_w + 1] : 0.0f;
    }
    __device__ __forceinline__ float result(int y, int x) const { return fetched[y][x]; }
};

template <>
struct WindowGradient<PooledGradient> {
    float fetched;
    int won;

    __device__ __forceinline__ void load(const Conv& g, const PooledGradient& gradient, Pixel corner, int channel, bool exists) {
        const u32 at = u32(corner.image * g.c_out + channel) * u32(PooledGradient::plane(g)) + u32(corner.y / 2 * g.pooled_w() + corner.x / 2);
        fetched = exists ? gradient.dy[at] : 0.0f;
        won = exists ? gradient.winner[at] : 4;
    }
    __device__ __forceinline__ float result(int y, int x) const { return won == 2 * y + x ? fetched : 0.0f; }
};

// A·dy·Aᵀ.
template <class Results>
__device__ __forceinline__ void transform_gradient(const Results& dy, float (&v)[4][4]) {
#pragma unroll
    for (int y = 0; y < 4; ++y) {
        float row[2];
#pragma unroll
        for (int x = 0; x < 2; ++x) {
            const float upper = dy.result(0, x), lower = dy.result(1, x);
            row[x] = y == 0 ? upper : y == 1 ? upper + lower : y == 2 ? upper - lower : -lower;
        }
        v[y][0] = row[0], v[y][1] = row[0] + row[1], v[y][2] = row[0] - row[1], v[y][3] = -row[1];
    }
}

// The block with blockIdx.z = split sums over its stretch of windows, a multiple of DEEP.
template <class Gradient>
__device__ __forceinline__ void winograd_weight_sums(const Conv& g, const Windows& windows, const float* x, const Gradient& gradient, int stretch,
                                                     float* sums) {
    auto& memory = shared_memory<WinogradWeightMemory>();
    const int out0 = blockIdx.y * ROWS, in0 = blockIdx.x * ROWS, first = blockIdx.z * stretch, end = min(first + stretch, windows.count);
    // Neighbouring lanes have neighbouring windows. A channel that does not exist: its sums, whatever they are, are not stored.
    const int own = lane() % DEEP, channel = warp() * 4 + lane() / DEEP;
    const int in = min(in0 + channel, g.c_in - 1), out = min(out0 + channel, g.c_out - 1);
    Patch<DenseGradient> patch(g, DenseGradient{x});
    WindowGradient<Gradient> of_window;
    const auto begin = [&](int k) {
        const bool exists = k + own < end;
        const Pixel corner = windows.corner(k + own);
        patch.move(g, corner, in, exists);
        patch.load(true);
        of_window.load(g, gradient, corner, out, exists);
    };
    const auto finish = [&] {
        float v[4][4];
        transform_patch(patch, v);
#pragma unroll
        for (int place = 0; place < PLACES; ++place) memory.patches[place][own][turned(channel, place)] = v[place / 4][place % 4];
        transform_gradient(of_window, v);
#pragma unroll
        for (int place = 0; place < PLACES; ++place) memory.gradients[place][own][turned(channel, place)] = v[place / 4][place % 4];
        __syncthreads();
    };

    const Share share;
    float sum[8][8] = {};
    begin(first);
    finish();
    for (int k = first; k < end; k += DEEP) {
        const bool more = k + DEEP < end;
        if (more) begin(k + DEEP);
        share.multiply<PITCH>(memory.gradients[0][0], memory.patches[0][0], sum);
        if (more) {
            __syncthreads();  // All are done with the slice.
            finish();
        }
    }

#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int number = out0 + i / 4 * 16 + share.row + i % 4;
        if (number >= g.c_out) continue;
        float* row = sums + (u32(blockIdx.z * PLACES + share.place) * u32(g.c_out) + u32(number)) * u32(g.c_in);
#pragma unroll
        for (int quad = 0; quad < 2; ++quad)
            store_row(row, in0 + 16 * quad + share.column, g.c_in, {sum[i][4 * quad], sum[i][4 * quad + 1], sum[i][4 * quad + 2], sum[i][4 * quad + 3]});
    }
}

extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_winograd_grad_weight(Conv g, Windows windows, const float* x, const float* dy, int stretch, float* sums) {
    winograd_weight_sums(g, windows, x, DenseGradient{dy}, stretch, sums);
}
extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_winograd_pooled_grad_weight(Conv g, Windows windows, const float* x, const float* dy, const u8* winners, int stretch, float* sums) {
    winograd_weight_sums(g, windows, x, PooledGradient{dy, winners}, stretch, sums);
}

// Pairs of channels of a block below, a thread for each of their places.
constexpr int PAIRS = 16;

struct SumMemory {
    float of[PLACES][PAIRS];
};

// Gᵀ·m·G of the splits' sums, which are added in order: n pairs [c_out, c_in], 9 numbers each.
extern "C" __global__ void __launch_bounds__(256) conv2d_winograd_grad_weight_sum(const float* sums, float* dw, int splits, u32 n) {
    auto& m = shared_memory<SumMemory>().of;
    const u32 first = blockIdx.x * PAIRS;
    const int place = threadIdx.x / PAIRS, pair = threadIdx.x % PAIRS;
    float sum = 0.0f;
    if (first + pair < n) {
        const float* from = sums + u32(place) * n + first + pair;
#pragma unroll 8
        for (int split = 0; split < splits; ++split) sum += from[u32(split * PLACES) * n];
    }
    m[place][pair] = sum;
    __syncthreads();
    if (threadIdx.x >= 3 * PAIRS || first + pair >= n) return;
    const int y = threadIdx.x / PAIRS;  // Each thread has a row of three taps.
    float row[4];
#pragma unroll
    for (int x = 0; x < 4; ++x) {
        const float inner = m[4 + x][pair], other = m[8 + x][pair];
        row[x] = y == 0 ? m[x][pair] + 0.5f * (inner + other) : y == 1 ? 0.5f * (inner - other) : 0.5f * (inner + other) + m[12 + x][pair];
    }
    float* to = dw + (first + pair) * 9 + 3 * y;
    to[0] = row[0] + 0.5f * (row[1] + row[2]);
    to[1] = 0.5f * (row[1] - row[2]);
    to[2] = 0.5f * (row[1] + row[2]) + row[3];
}
