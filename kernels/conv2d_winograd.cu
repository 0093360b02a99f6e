// 3 × 3 convolutions in f32 by minimal filtering, forward and for the input gradient, which is the same convolution of the output's gradient
// with mirrored weights (conv2d_winograd.cuh has the idea).
//
// A block owns 32 output channels × 32 windows and walks over the channels in slices of 8. Weights are transformed and packed beforehand, in the
// order in which they lie in shared memory, and arrive by cp.async one slice ahead. A thread fetches one patch of the next slice while the block
// multiplies, transforms it in registers, and stores it between two barriers. Sums are brought together through shared memory at the end,
// a quarter at a time, where a thread transforms one window back. It is also what 2×2 max-pooling wants.
//
// Cost of a slice for a thread: 512 multiply-adds, which count as 1,152; 32 loads of 16 bytes from shared memory, 16 pixels, 32 additions and
// 16 stores for its patch, 4 copies of weights. Memory: 16 KiB of weights and some 8 KiB of pixels a block and slice, mostly from cache.
#include "conv2d_winograd.cuh"

constexpr int SLICE = PLACES * DEEP * ROWS;  // Weights of a block.

// Aᵀ·m·A: the window's results in row-major order.
__device__ __forceinline__ void transform_back(const float (&m)[4][4], float (&y)[4]) {
    float rows[2][4];
#pragma unroll
    for (int x = 0; x < 4; ++x) {
        rows[0][x] = m[0][x] + m[1][x] + m[2][x];
        rows[1][x] = m[1][x] - m[2][x] - m[3][x];
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        y[2 * i] = rows[i][0] + rows[i][1] + rows[i][2];
        y[2 * i + 1] = rows[i][1] - rows[i][2] - rows[i][3];
    }
}

__device__ __forceinline__ void store_window(const Conv& g, const Outputs& output, int channel, int, Pixel corner, const float (&v)[4]) {
    const u32 plane = u32(corner.image * g.c_out + channel) * u32(g.out_h * g.out_w);
    const float shift = output.shift(channel);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int y = corner.y + i / 2, x = corner.x + i % 2;
        if (y < g.out_h && x < g.out_w) output.store_at(plane + u32(y * g.out_w + x), v[i] + shift);
    }
}
__device__ __forceinline__ void store_window(const Conv& g, const PooledOutputs& output, int channel, int window, Pixel, const float (&v)[4]) {
    output.store(g, channel, 4 * window, {v[0], v[1], v[2], v[3]});
}

struct WinogradMemory {
    union {
        struct {
            float weights[2][SLICE];
            float patches[PLACES][DEEP][ROWS];
        };
        float sums[PLACES][8][ROWS];  // Behind the last slice.
    };
};

// A convolution of `source`, which has c_in channels.
template <class Source, class Output>
__device__ __forceinline__ void winograd(const Conv& g, const Windows& windows, const Source& source, const float* weights, const Output& output) {
    auto& memory = shared_memory<WinogradMemory>();
    const int slices = (g.c_in + DEEP - 1) / DEEP, window = int(blockIdx.x) * ROWS + lane();
    const bool exists = window < windows.count;
    const Pixel corner = windows.corner(exists ? window : 0);
    Patch<Source> patch(g, source);
    patch.move(g, corner, warp(), exists);
    u32 next_weights = blockIdx.y * u32(slices * SLICE) + threadIdx.x * 4;
    const auto begin = [&](int slice) {
#pragma unroll
        for (int i = 0; i < SLICE; i += 1024) copy_async_16(&memory.weights[slice % 2][i + int(threadIdx.x) * 4], weights + next_weights + i, true);
        commit_copies();
        next_weights += SLICE;
        patch.load(slice * DEEP + warp() < g.c_in);
        patch.advance(DEEP);
    };
    const auto finish = [&] {
        float v[4][4];
        transform_patch(patch, v);
#pragma unroll
        for (int place = 0; place < PLACES; ++place) memory.patches[place][warp()][turned(lane(), place)] = v[place / 4][place % 4];
        wait_copies<0>();
        __syncthreads();
    };

    const Share share;
    float sum[8][8] = {};
    begin(0);
    finish();
    for (int slice = 0; slice < slices; ++slice) {
        const bool more = slice + 1 < slices;
        if (more) begin(slice + 1);
        share.multiply<ROWS>(memory.weights[slice % 2], memory.patches[0][0], sum);
        if (more) {
            __syncthreads();  // All are done with the patches.
            finish();
        }
    }

    // A quarter of each thread's rows at a time; here places that lie 16 banks apart are those whose number and row are together odd.
#pragma unroll
    for (int part = 0; part < 4; ++part) {
        __syncthreads();  // All are done with what was here.
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int quad = 0; quad < 2; ++quad) {
                const float(&v)[8] = sum[2 * part + i];
                store4(&memory.sums[share.place][share.row / 2 + i][turned(16 * quad + share.column, share.place + share.row / 4)],
                       {v[4 * quad], v[4 * quad + 1], v[4 * quad + 2], v[4 * quad + 3]});
            }
        __syncthreads();
        float m[4][4], results[4];
#pragma unroll
        for (int i = 0; i < PLACES; ++i) m[i / 4][i % 4] = memory.sums[i][warp()][turned(lane(), i + warp() / 2)];
        transform_back(m, results);
        const int channel = int(blockIdx.y) * ROWS + part / 2 * 16 + warp() / 2 * 4 + part % 2 * 2 + warp() % 2;
        if (exists && channel < g.c_out) store_window(g, output, channel, window, corner, results);
    }
}

extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_winograd(Conv g, Windows windows, const float* x, const float* weights, const float* bias, int clip, float* y) {
    winograd(g, windows, DenseGradient{x}, weights, Outputs{bias, clip, y});
}
extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_winograd_relu_pool(Conv g, Windows windows, const float* x, const float* weights, const float* bias, float* y, u8* winners) {
    winograd(g, windows, DenseGradient{x}, weights, PooledOutputs{bias, y, winners});
}
extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_winograd_pooled_grad_input(Conv g, Windows windows, const float* dy, const u8* winners, const float* weights, float* dx) {
    winograd(g, windows, PooledGradient{dy, winners}, weights, Outputs{nullptr, 0, dx});
}

// G·g·Gᵀ of all weights, zeros where there are none: [rows in groups of 32][slice][place][8 channels][32 rows], for `n` pairs of a row and a
// channel. The forward pass has a row for each output channel; the input gradient has one for each input channel, and mirrored taps.
extern "C" __global__ void __launch_bounds__(256)
    conv2d_winograd_weights(const float* weight, int rows, int channels, int backward, float* packed, u32 n) {
    const u32 slices = (channels + DEEP - 1) / DEEP;
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const int row_of_32 = i % ROWS, channel_of_8 = i / ROWS % DEEP;
        const u32 slice = i / (ROWS * DEEP);
        const int row = slice / slices * ROWS + row_of_32, channel = slice % slices * DEEP + channel_of_8;
        float taps[3][3], columns[4][3];
#pragma unroll
        for (int tap = 0; tap < 9; ++tap) {
            const u32 at = backward ? u32(channel * rows + row) * 9 + 8 - tap : u32(row * channels + channel) * 9 + tap;
            taps[tap / 3][tap % 3] = row < rows && channel < channels ? weight[at] : 0.0f;
        }
#pragma unroll
        for (int x = 0; x < 3; ++x) {
            const float ends = taps[0][x] + taps[2][x];
            columns[0][x] = taps[0][x], columns[3][x] = taps[2][x];
            columns[1][x] = 0.5f * (ends + taps[1][x]), columns[2][x] = 0.5f * (ends - taps[1][x]);
        }
        float* to = packed + slice * u32(SLICE) + channel_of_8 * ROWS;
#pragma unroll
        for (int y = 0; y < 4; ++y) {
            const float ends = columns[y][0] + columns[y][2];
            const float v[4] = {columns[y][0], 0.5f * (ends + columns[y][1]), 0.5f * (ends - columns[y][1]), columns[y][2]};
#pragma unroll
            for (int x = 0; x < 4; ++x) {
                const int place = 4 * y + x;
                to[place * (DEEP * ROWS) + turned(row_of_32, place)] = v[x];
            }
        }
    }
}
