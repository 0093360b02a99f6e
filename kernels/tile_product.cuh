// The matrix product of one block, which convolutions and matrix multiplication share.
//
// Idea: c = a · b, where operands are functions that return four neighbouring elements; an implicit matrix (the patches of an image)
// is never written down. A block of 256 threads owns a tile of M × N results and walks over k in slices of K. Each slice of a and b is
// brought into shared memory, transposed to [k][m] and [k][n], so that a thread reads its operands as 16-byte vectors; a thread keeps
// TM × TN results in registers. Two slices are in flight: while one is multiplied, the next one is read from global memory into
// registers, and one barrier a slice is enough. The order of additions is that of k, whatever the grid.
//
// Cost for each slice and thread: 8 floats read from global memory, (TM + TN) · K from shared memory, TM · TN · K fused multiply-adds.
// With 8 × 8 results a thread the arithmetic is the limit, with 4 × 4 shared memory's bandwidth.
#pragma once
#include "common.cuh"

// A power of two by which an operand is multiplied before it is rounded to half precision, and its inverse: 1 but for gradients, which
// would become 0 for want of exponents.
struct Scale {
    float by = 1.0f, back = 1.0f;
};

template <int M_, int N_, int K_, int TM_, int TN_>
struct TileShape {
    static constexpr bool TENSOR_CORES = false;
    static constexpr int M = M_, N = N_, K = K_, TM = TM_, TN = TN_;
    static constexpr int THREADS = (M / TM) * (N / TN);
    static_assert(THREADS == 256 && M * K == 4 * THREADS && N * K == 4 * THREADS, "each thread loads one vector of each slice");
};

// For results of at least 96 × 96, and for smaller ones.
using LargeTile = TileShape<128, 128, 8, 8, 8>;
using SmallTile = TileShape<64, 64, 16, 4, 4>;

template <class Tile>
struct Slices {
    float a[2][Tile::K][Tile::M + 4];  // 4 more, so that rows stay aligned and columns spread over the banks.
    float b[2][Tile::K][Tile::N + 4];
};

// Brings an operand's slices into shared memory. An operand has
//   along_k:       whether its four neighbours lie along k (else along the rows of a, the columns of b);
//   in_memory:     whether it is a matrix in memory, of which tensor_product.cuh can copy, and then
//   rounded:       whether its elements are TF32 numbers already;
//   scale():       see Scale; in f32 nobody asks;
//   prepare(i):    i is this thread's row or column (the first of four, if not along_k), for the whole product;
//   load(k):       four elements from k on, zero outside.
template <class Operand, int EXTENT, int K>
struct SliceLoader {
    Operand operand;
    int i, k;

    __device__ __forceinline__ SliceLoader(Operand operand_, int i0) : operand(operand_) {
        constexpr int ALONG_K = K / 4, ALONG_I = EXTENT / 4;
        if (Operand::along_k) {
            i = threadIdx.x / ALONG_K;
            k = threadIdx.x % ALONG_K * 4;
        } else {
            i = threadIdx.x % ALONG_I * 4;
            k = threadIdx.x / ALONG_I;
        }
        operand.prepare(i0 + i);
    }

    __device__ __forceinline__ float4 load(int k0) { return operand.load(k0 + k); }

    __device__ __forceinline__ void store(float (&slice)[K][EXTENT + 4], float4 v) const {
        if (Operand::along_k) {
            slice[k][i] = v.x;
            slice[k + 1][i] = v.y;
            slice[k + 2][i] = v.z;
            slice[k + 3][i] = v.w;
        } else {
            store4(&slice[k][i], v);
        }
    }
};

// A thread's results lie in quads of 4 × 4, spread over the tile so that the vectors of neighbouring threads are neighbours.
template <int EXTENT, int T>
__device__ __forceinline__ int quad_start(int thread, int quad) {
    return quad * (EXTENT / (T / 4)) + 4 * thread;
}

// Multiplies over k_begin ≤ k < k_end (k_begin a multiple of 4) and calls store(row, column, v) with four neighbours in a row; rows and
// columns start at m0 and n0 and may lie outside the matrix.
template <class Tile, class A, class B, class Store>
__device__ __forceinline__ void tile_product(int m0, int n0, int k_begin, int k_end, A a, B b, Store store) {
    constexpr int M = Tile::M, N = Tile::N, K = Tile::K, TM = Tile::TM, TN = Tile::TN;
    auto& slices = shared_memory<Slices<Tile>>();
    SliceLoader<A, M, K> load_a(a, m0);
    SliceLoader<B, N, K> load_b(b, n0);
    const int column = threadIdx.x % (N / TN), row = threadIdx.x / (N / TN);

    float sum[TM][TN] = {};
    float4 next_a = load_a.load(k_begin), next_b = load_b.load(k_begin);
    load_a.store(slices.a[0], next_a);
    load_b.store(slices.b[0], next_b);
    __syncthreads();
    for (int k0 = k_begin, stage = 0; k0 < k_end; k0 += K, stage ^= 1) {
        const bool more = k0 + K < k_end;
        if (more) {
            next_a = load_a.load(k0 + K);
            next_b = load_b.load(k0 + K);
        }
#pragma unroll
        for (int k = 0; k < K; ++k) {
            float va[TM], vb[TN];
#pragma unroll
            for (int q = 0; q < TM / 4; ++q) {
                const float4 v = load4(&slices.a[stage][k][quad_start<M, TM>(row, q)]);
                va[4 * q] = v.x, va[4 * q + 1] = v.y, va[4 * q + 2] = v.z, va[4 * q + 3] = v.w;
            }
#pragma unroll
            for (int q = 0; q < TN / 4; ++q) {
                const float4 v = load4(&slices.b[stage][k][quad_start<N, TN>(column, q)]);
                vb[4 * q] = v.x, vb[4 * q + 1] = v.y, vb[4 * q + 2] = v.z, vb[4 * q + 3] = v.w;
            }
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) sum[i][j] += va[i] * vb[j];
        }
        if (more) {
            load_a.store(slices.a[stage ^ 1], next_a);
            load_b.store(slices.b[stage ^ 1], next_b);
            __syncthreads();
        }
    }
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
        for (int q = 0; q < TN / 4; ++q) {
            const int j = 4 * q;
            store(m0 + quad_start<M, TM>(row, i / 4) + i % 4, n0 + quad_start<N, TN>(column, q),
                  float4{sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]});
        }
}

// A matrix in memory as an operand: element (i, k) at from[i · k_extent + k] if its rows run along k, else at from[k · i_extent + i].
template <bool ALONG_K>
struct Matrix {
    static constexpr bool along_k = ALONG_K, in_memory = true, rounded = false;
    const float* from;
    int i_extent, k_extent;
    int i;
    Scale scale_;

    __device__ __forceinline__ void prepare(int first) { i = first; }
    __device__ __forceinline__ Scale scale() const { return scale_; }

    __device__ __forceinline__ float4 load(int k) const {
        const int outer = ALONG_K ? i : k, inner = ALONG_K ? k : i;
        const int outer_extent = ALONG_K ? i_extent : k_extent, inner_extent = ALONG_K ? k_extent : i_extent;
        if (outer >= outer_extent || inner >= inner_extent) return {0.0f, 0.0f, 0.0f, 0.0f};
        const float* at = from + u32(outer) * u32(inner_extent) + inner;
        if (inner_extent % 4 == 0) return load4(at);  // Then every row, and so every vector, is aligned.
        float4 v = {at[0], 0.0f, 0.0f, 0.0f};
        if (inner + 1 < inner_extent) v.y = at[1];
        if (inner + 2 < inner_extent) v.z = at[2];
        if (inner + 3 < inner_extent) v.w = at[3];
        return v;
    }

    // Copies the same to shared memory, asynchronously.
    __device__ __forceinline__ void copy(int k, u32* to) const {
        const int outer = ALONG_K ? i : k, inner = ALONG_K ? k : i;
        const int inner_extent = ALONG_K ? k_extent : i_extent;
        const bool exists = outer < (ALONG_K ? i_extent : k_extent) && inner < inner_extent;
        const float* at = exists ? from + u32(outer) * u32(inner_extent) + inner : from;
        if (inner_extent % 4 == 0) return copy_async_16(to, at, exists);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const bool one_exists = exists && inner + j < inner_extent;
            copy_async_4(to + j, one_exists ? at + j : from, one_exists);
        }
    }
};

// Writes up to four neighbours of a row, as one vector where it is aligned.
__device__ __forceinline__ void store_row(float* row, int column, int columns, float4 v) {
    if (columns % 4 == 0 && column < columns) {
        store4(row + column, v);
        return;
    }
    if (column < columns) row[column] = v.x;
    if (column + 1 < columns) row[column + 1] = v.y;
    if (column + 2 < columns) row[column + 2] = v.z;
    if (column + 3 < columns) row[column + 3] = v.w;
}
