// 3 × 3 convolutions with stride 1 and padding 1 in f32 by minimal filtering, F(2×2, 3×3) (Winograd 1980; Lavin and Gray, CVPR 2016).
//
// Idea: the four results of a 2 × 2 window are sums over channels of 16 products, of the transformed 4 × 4 pixels around it with the
// transformed weights, where 36 products stand otherwise: y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A. The gradient of the weights is the transposed
// algorithm, dg = Gᵀ[(A·dy·Aᵀ) ⊙ (Bᵀ·d·B)]G, and sums run over windows. So there are 16 products of matrices, one for each place in a
// transformed patch. A block of 256 threads owns 32 × 32 sums of all 16; 16 threads share one of the products, 8 × 8 sums each.
#pragma once
#include "conv2d.cuh"

constexpr int PLACES = 16;  // Of a transformed patch.
constexpr int DEEP = 8;     // What is added up at a time.
constexpr int ROWS = 32;    // Rows and columns of a block's products.

// Where column i of a row lies that belongs to place `place`: a warp works on two places, whose rows then lie in different banks.
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

// The 4 × 4 pixels around a window of a channel: move() says which, load() begins to fetch them, pixel() is what was fetched.
template <class Source>
struct Patch;

template <>
struct Patch<DenseGradient> {
    const float* from;
    u32 place, plane, pitch, inside;
    float fetched[4][4];

    __device__ __forceinline__ Patch(const Conv& g, const DenseGradient& source) : from(source.dy) { plane = u32(g.h * g.w), pitch = u32(g.w); }

    __device__ __forceinline__ void move(const Conv& g, Pixel corner, int channel, bool exists) {
        // Outside the image it wraps around, and comes back where a pixel exists.
        place = u32(corner.image * g.c_in + channel) * plane + u32(corner.y - 1) * pitch + u32(corner.x - 1);
        inside = 0;
#pragma unroll
        for (int i = 0; i < 16; ++i)
            if (exists && u32(corner.y - 1 + i / 4) < u32(g.h) && u32(corner.x - 1 + i % 4) < u32(g.w)) inside |= 1u << i;
    }

    __device__ __forceinline__ void load(bool exists) {
        const u32 there = exists ? inside : 0;
#pragma unroll
        for (int y = 0; y < 4; ++y) {
            const float* row = from + int(place + u32(y) * pitch);
#pragma unroll
            for (int x = 0; x < 4; ++x) fetched[y][x] = there >> (4 * y + x) & 1 ? row[x] : 0.0f;
        }
    }
    // To the same pixels of a channel `channels` later.
    __device__ __forceinline__ void advance(int channels) { place += u32(channels) * plane; }
    __device__ __forceinline__ float pixel(int y, int x) const { return fetched[y][x]; }
};

// Behind pooling the pixels lie in 3 × 3 windows, each of which has one winner.
template <>
struct Patch<PooledGradient> {
    const float* dy;
    const u8* winner;
    u32 place, plane, pitch, inside;
    float fetched[3][3];
    int won[3][3];

    __device__ __forceinline__ Patch(const Conv& g, const PooledGradient& source) : dy(source.dy), winner(source.winner) {
        plane = u32(PooledGradient::plane(g)), pitch = u32(g.pooled_w());
    }

    __device__ __forceinline__ void move(const Conv& g, Pixel corner, int channel, bool exists) {
        const int top = corner.y / 2 - 1, left = corner.x / 2 - 1;
        place = u32(corner.image * g.c_in + channel) * plane + u32(top) * pitch + u32(left);
        inside = 0;
#pragma unroll
        for (int i = 0; i < 9; ++i)
            if (exists && u32(top + i / 3) < u32(g.pooled_h()) && u32(left + i % 3) < pitch) inside |= 1u << i;
    }

    __device__ __forceinline__ void load(bool exists) {
        const u32 there = exists ? inside : 0;
#pragma unroll
        for (int y = 0; y < 3; ++y) {
            const int row = int(place + u32(y) * pitch);
            const float* gradients = dy + row;
            const u8* winners = winner + row;
#pragma unroll
            for (int x = 0; x < 3; ++x) {
                const bool one_is_there = there >> (3 * y + x) & 1;
                fetched[y][x] = one_is_there ? gradients[x] : 0.0f;
                won[y][x] = one_is_there ? winners[x] : 4;
            }
        }
    }
    // To the same pixels of a channel `channels` later.
    __device__ __forceinline__ void advance(int channels) { place += u32(channels) * plane; }
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

// This thread's product, and its rows and columns: quads of four, 16 apart.
struct Share {
    int place, row, column;

    __device__ __forceinline__ Share() {
        place = threadIdx.x / 16, row = threadIdx.x / 4 % 4 * 4, column = threadIdx.x % 4 * 4;
    }

    // Adds a slice's products up; a and b are [place][DEEP][PITCH] in shared memory.
    template <int PITCH>
    __device__ __forceinline__ void multiply(const float* a, const float* b, float (&sum)[8][8]) const {
        const int first = place * (DEEP * PITCH);
        const float* of_rows[2] = {a + first + turned(row, place), a + first + turned(16 + row, place)};
        const float* of_columns[2] = {b + first + turned(column, place), b + first + turned(16 + column, place)};
#pragma unroll
        for (int k = 0; k < DEEP; ++k) {
            float of_a[8], of_b[8];
#pragma unroll
            for (int quad = 0; quad < 2; ++quad) {
                const float4 va = load4(of_rows[quad] + k * PITCH), vb = load4(of_columns[quad] + k * PITCH);
                of_a[4 * quad] = va.x, of_a[4 * quad + 1] = va.y, of_a[4 * quad + 2] = va.z, of_a[4 * quad + 3] = va.w;
                of_b[4 * quad] = vb.x, of_b[4 * quad + 1] = vb.y, of_b[4 * quad + 2] = vb.z, of_b[4 * quad + 3] = vb.w;
            }
#pragma unroll
            for (int i = 0; i < 8; ++i)
#pragma unroll
                for (int j = 0; j < 8; ++j) sum[i][j] += of_a[i] * of_b[j];
        }
    }
};
