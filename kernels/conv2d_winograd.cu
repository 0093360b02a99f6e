// 3 × 3 convolutions with stride 1 and padding 1 in f32 by minimal filtering, F(2×2, 3×3) (Winograd 1980; Lavin and Gray, CVPR 2016),
// forward and for the input gradient, which is the same convolution of the output's gradient with mirrored weights.
//
// Idea: the four results of a 2 × 2 window are sums over channels of 16 products, of the transformed 4 × 4 pixels around it with the
// transformed weights, where 36 products stand otherwise. So there are 16 products of matrices, one for each place in a transformed patch:
// [c_out × c_in] · [c_in × windows]. A block of 256 threads owns 32 output channels × 32 windows of all 16, and walks over the
// channels in slices of 8; 16 threads share one of the products, 8 × 8 sums each. Weights are transformed and packed beforehand, in the
// order in which they lie in shared memory, and arrive by cp.async one slice ahead. A thread fetches one patch of the next slice while the block
// multiplies, transforms it in registers, and stores it between two barriers. Sums are brought together through shared memory at the end,
// a quarter at a time, where a thread transforms one window back. It is also what 2×2 max-pooling wants.
//
// Cost of a slice for a thread: 512 multiply-adds, which count as 1,152; 32 loads of 16 bytes from shared memory, 16 pixels, 32 additions and
// 16 stores for its patch, 4 copies of weights. Memory: 16 KiB of weights and some 8 KiB of pixels a block and slice, mostly from cache.
// Banks: a warp works on two of the products, which lie 16 banks apart since the halves of every second one's rows change places.
#include "conv2d.cuh"

constexpr int PLACES = 16;  // Of a transformed patch.
constexpr int DEEP = 8;
constexpr int ROWS = 32;  // Output channels, and windows, of a block.
constexpr int SLICE = PLACES * DEEP * ROWS;

// Where column i of a row lies that belongs to place `place`.
__device__ __forceinline__ int turned(int i, int place) { return i ^ place % 2 * 16; }

// The windows of 2 × 2 results, counted through all images; `Windows` in src/backend/cuda/winograd.rs.
struct Windows {
    int down, across, count;
    Divisor by_down, by_across;

    // A window's first pixel.
    __device__ __forceinline__ Pixel corner(int window) const {
        const int row = by_across.quotient(window), image = by_down.quotient(row);
        return {image, 2 * (row - image * down), 2 * (window - row * across)};
    }
};

// The 4 × 4 pixels around a window: load() begins to fetch those of a channel, pixel() is what was fetched.
template <class Source>
struct Patch;

template <>
struct Patch<DenseGradient> {
    const float* from;
    int place, plane, pitch;
    u32 inside;
    float fetched[4][4];

    __device__ __forceinline__ Patch(const Conv& g, const DenseGradient& source, Pixel corner, bool exists) : from(source.dy) {
        plane = g.h * g.w, pitch = g.w, inside = 0;
        place = (corner.image * g.c_in + warp()) * plane + (corner.y - 1) * pitch + corner.x - 1;
#pragma unroll
        for (int i = 0; i < 16; ++i)
            if (exists && u32(corner.y - 1 + i / 4) < u32(g.h) && u32(corner.x - 1 + i % 4) < u32(g.w)) inside |= 1u << i;
    }

    __device__ __forceinline__ void load(bool exists) {
        const u32 there = exists ? inside : 0;
#pragma unroll
        for (int y = 0; y < 4; ++y) {
            const float* row = from + (place + y * pitch);
#pragma unroll
            for (int x = 0; x < 4; ++x) fetched[y][x] = there >> (4 * y + x) & 1 ? row[x] : 0.0f;
        }
        place += DEEP * plane;
    }
    __device__ __forceinline__ float pixel(int y, int x) const { return fetched[y][x]; }
};

// Behind pooling the pixels lie in 3 × 3 windows, each of which has one winner.
template <>
struct Patch<PooledGradient> {
    const float* dy;
    const u8* winner;
    int place, plane, pitch;
    u32 inside;
    float fetched[3][3];
    int won[3][3];

    __device__ __forceinline__ Patch(const Conv& g, const PooledGradient& source, Pixel corner, bool exists)
        : dy(source.dy), winner(source.winner) {
        const int top = corner.y / 2 - 1, left = corner.x / 2 - 1;
        plane = PooledGradient::plane(g), pitch = g.pooled_w(), inside = 0;
        place = (corner.image * g.c_in + warp()) * plane + top * pitch + left;
#pragma unroll
        for (int i = 0; i < 9; ++i)
            if (exists && u32(top + i / 3) < u32(g.pooled_h()) && u32(left + i % 3) < u32(pitch)) inside |= 1u << i;
    }

    __device__ __forceinline__ void load(bool exists) {
        const u32 there = exists ? inside : 0;
#pragma unroll
        for (int y = 0; y < 3; ++y) {
            const int row = place + y * pitch;
            const float* gradients = dy + row;
            const u8* winners = winner + row;
#pragma unroll
            for (int x = 0; x < 3; ++x) {
                const bool one_is_there = there >> (3 * y + x) & 1;
                fetched[y][x] = one_is_there ? gradients[x] : 0.0f;
                won[y][x] = one_is_there ? winners[x] : 4;
            }
        }
        place += DEEP * plane;
    }
    __device__ __forceinline__ float pixel(int y, int x) const {
        const int row = (y + 1) / 2, column = (x + 1) / 2, inside_window = (y + 1) % 2 * 2 + (x + 1) % 2;
        return won[row][column] == inside_window ? fetched[row][column] : 0.0f;
    }
};

// Bᵀ·d·B.
template <class Pixels>
__device__ __forceinline__ void transform_patch(const Pixels& d, float (&v)[4][4]) {
    float rows[4][4];
#pragma unroll
    for (int x = 0; x < 4; ++x) {
        rows[0][x] = d.pixel(0, x) - d.pixel(2, x);
        rows[1][x] = d.pixel(1, x) + d.pixel(2, x);
        rows[2][x] = d.pixel(2, x) - d.pixel(1, x);
        rows[3][x] = d.pixel(1, x) - d.pixel(3, x);
    }
#pragma unroll
    for (int y = 0; y < 4; ++y) {
        v[y][0] = rows[y][0] - rows[y][2];
        v[y][1] = rows[y][1] + rows[y][2];
        v[y][2] = rows[y][2] - rows[y][1];
        v[y][3] = rows[y][1] - rows[y][3];
    }
}

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
    Patch<Source> patch(g, source, corner, exists);
    u32 next_weights = blockIdx.y * u32(slices * SLICE) + threadIdx.x * 4;
    const auto begin = [&](int slice) {
#pragma unroll
        for (int i = 0; i < SLICE; i += 1024) copy_async_16(&memory.weights[slice % 2][i + int(threadIdx.x) * 4], weights + next_weights + i, true);
        commit_copies();
        next_weights += SLICE;
        patch.load(slice * DEEP + warp() < g.c_in);
    };
    const auto finish = [&] {
        float v[4][4];
        transform_patch(patch, v);
#pragma unroll
        for (int place = 0; place < PLACES; ++place) memory.patches[place][warp()][turned(lane(), place)] = v[place / 4][place % 4];
        wait_copies<0>();
        __syncthreads();
    };

    // This thread's product, and its rows and columns: quads of four, 16 apart.
    const int place = threadIdx.x / 16, row = threadIdx.x / 4 % 4 * 4, column = threadIdx.x % 4 * 4;
    const int first = place * (DEEP * ROWS);
    float sum[8][8] = {};
    begin(0);
    finish();
    for (int slice = 0; slice < slices; ++slice) {
        const bool more = slice + 1 < slices;
        if (more) begin(slice + 1);
        const float* a[2] = {memory.weights[slice % 2] + first + turned(row, place), memory.weights[slice % 2] + first + turned(16 + row, place)};
        const float* b[2] = {memory.patches[0][0] + first + turned(column, place), memory.patches[0][0] + first + turned(16 + column, place)};
#pragma unroll 8
        for (int k = 0; k < DEEP; ++k) {
            float of_a[8], of_b[8];
#pragma unroll
            for (int quad = 0; quad < 2; ++quad) {
                const float4 va = load4(a[quad] + k * ROWS), vb = load4(b[quad] + k * ROWS);
                of_a[4 * quad] = va.x, of_a[4 * quad + 1] = va.y, of_a[4 * quad + 2] = va.z, of_a[4 * quad + 3] = va.w;
                of_b[4 * quad] = vb.x, of_b[4 * quad + 1] = vb.y, of_b[4 * quad + 2] = vb.z, of_b[4 * quad + 3] = vb.w;
            }
#pragma unroll
            for (int i = 0; i < 8; ++i)
#pragma unroll
                for (int j = 0; j < 8; ++j) sum[i][j] += of_a[i] * of_b[j];
        }
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
                store4(&memory.sums[place][row / 2 + i][turned(16 * quad + column, place + row / 4)],
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
