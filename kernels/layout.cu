// Kernels that move, repeat or add up elements by their position. Copies work on units of 1, 2, 4 or 8 bytes, whatever the element
// type, and are limited by memory.
#include "common.cuh"

// Row-major extents of the result and the distance between neighbours in the source (0 where it is repeated).
struct Strided {
    int rank;
    u32 extent[MAX_RANK];
    u32 stride[MAX_RANK];
};

// Neighbouring threads write neighbouring elements; their reads are as close together as the strides allow.
template <class T>
__device__ __forceinline__ void read_strided(Strided shape, const T* from, T* to, u32 n) {
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        u32 rest = i, at = 0;
#pragma unroll  // Arguments have no addresses: an index that is not known would copy them to memory.
        for (int d = MAX_RANK - 1; d >= 0; --d) {
            if (d >= shape.rank) continue;
            at += rest % shape.extent[d] * shape.stride[d];
            rest /= shape.extent[d];
        }
        to[i] = from[at];
    }
}

// `blocks` stretches of `width` units, `from_pitch` apart in the source and `to_pitch` in the destination.
template <class T>
__device__ __forceinline__ void copy_blocks(const T* from, T* to, u32 blocks, u32 width, u32 from_pitch, u32 to_pitch) {
    const u32 n = blocks * width;
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const u32 block = i / width, column = i % width;
        to[block * to_pitch + column] = from[block * from_pitch + column];
    }
}

// Row index[i] of the table as row i.
template <class T>
__device__ __forceinline__ void gather_rows(const T* table, const int* index, T* to, u32 rows, u32 width) {
    const u32 n = rows * width;
    for (u32 i = grid_thread(); i < n; i += grid_threads()) to[i] = table[u32(index[i / width]) * width + i % width];
}

template <class T, int SIDE>
struct TransposeTile {
    T of[SIDE][SIDE + 1];  // One column more, so that a column's elements lie in different banks.
};

// to[b][j][i] = from[b][i][j]. A block of 32 × 8 threads moves a tile of 32 × 32 through shared memory: both the reads and the
// writes of a warp are neighbours in memory.
template <class T>
__device__ __forceinline__ void transpose(const T* from, T* to, u32 rows, u32 columns) {
    constexpr int SIDE = 32;
    auto& tile = shared_memory<TransposeTile<T, SIDE>>();
    const u32 offset = blockIdx.z * rows * columns;
    const u32 row0 = blockIdx.y * SIDE, column0 = blockIdx.x * SIDE;
    const u32 x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    for (u32 i = y; i < SIDE; i += 8)
        if (row0 + i < rows && column0 + x < columns) tile.of[i][x] = from[offset + (row0 + i) * columns + column0 + x];
    __syncthreads();
    for (u32 i = y; i < SIDE; i += 8)
        if (column0 + i < columns && row0 + x < rows) to[offset + (column0 + i) * rows + row0 + x] = tile.of[x][i];
}

#define FOR_UNIT(BITS, T)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(256) read_strided_##BITS(Strided shape, const T* from, T* to, u32 n) {       \
        read_strided(shape, from, to, n);                                                                                     \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256)                                                                         \
        copy_blocks_##BITS(const T* from, T* to, u32 blocks, u32 width, u32 from_pitch, u32 to_pitch) {                       \
        copy_blocks(from, to, blocks, width, from_pitch, to_pitch);                                                           \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256)                                                                         \
        gather_rows_##BITS(const T* table, const int* index, T* to, u32 rows, u32 width) {                                    \
        gather_rows(table, index, to, rows, width);                                                                           \
    }                                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256) transpose_##BITS(const T* from, T* to, u32 rows, u32 columns) {         \
        transpose(from, to, rows, columns);                                                                                   \
    }

FOR_UNIT(8, u8)
FOR_UNIT(16, u16)
FOR_UNIT(32, u32)
FOR_UNIT(64, u64)

// Numbers that lie anywhere, side by side, for one copy to the host. Their addresses travel in the arguments.
struct Scalars {
    const float* at[64];
};

extern "C" __global__ void __launch_bounds__(64) gather_scalars(Scalars scalars, float* to, u32 n) {
    if (threadIdx.x < n) to[threadIdx.x] = *scalars.at[threadIdx.x];
}

// The transpose of gather_rows: table row r is the sum of the rows i of dy with index[i] == r, in the order of i. A thread owns
// one element of the table and reads the index list, which all threads of a block share through the cache; no atomics.
extern "C" __global__ void __launch_bounds__(256)
    scatter_rows(const float* dy, const int* index, float* table, u32 count, u32 rows, u32 width) {
    const u32 n = rows * width;
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const int row = int(i / width);
        const u32 column = i % width;
        float sum = 0.0f;
        for (u32 j = 0; j < count; ++j)
            if (index[j] == row) sum += dy[j * width + column];
        table[i] = sum;
    }
}

// Row index[i] of the table becomes row i; each index comes once. A thread owns an element of the rows.
extern "C" __global__ void __launch_bounds__(256) set_rows(const float* rows, const int* index, float* table, u32 n, u32 width) {
    for (u32 i = grid_thread(); i < n; i += grid_threads()) table[u32(index[i / width]) * width + i % width] = rows[i];
}

// Sums over the middle of [outer, reduced, inner], of which the block with blockIdx.y = s adds up the stretch
// s · stretch … (s + 1) · stretch and writes sums[s][outer][inner]. A second launch over the stretches finishes what the first began.
// Where inner is 1 a warp adds up one row with neighbouring lanes on neighbouring elements; else a thread adds up one column.
extern "C" __global__ void __launch_bounds__(256)
    sum_rows(const float* x, float* sums, u32 outer, u32 reduced, u32 stretch) {
    const u32 first = blockIdx.y * stretch, last = min(first + stretch, reduced);
    const u32 warps = grid_threads() / WARP;
    for (u32 row = grid_thread() / WARP; row < outer; row += warps) {
        float sum = 0.0f;
        for (u32 i = first + lane(); i < last; i += WARP) sum += x[row * reduced + i];
        sum = warp_reduce(sum, Add());
        if (lane() == 0) sums[blockIdx.y * outer + row] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(256)
    sum_columns(const float* x, float* sums, u32 outer, u32 reduced, u32 inner, u32 stretch) {
    const u32 first = blockIdx.y * stretch, last = min(first + stretch, reduced);
    const u32 n = outer * inner;
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const float* column = x + (i / inner) * reduced * inner + i % inner;
        float sum = 0.0f;
        for (u32 r = first; r < last; ++r) sum += column[r * inner];
        sums[blockIdx.y * n + i] = sum;
    }
}
