// The matrix product of one block on tensor cores, with the same operands and the same `store` as tile_product.cuh.
//
// Idea: operands are rounded to TF32, bfloat16 or half precision, products are summed in f32 (mma.sync m16n8k8 and m16n8k16). A block of 8 warps owns a
// tile of 64 × 128 or 128 × 128 results, a warp 32 × 32 or 64 × 32 of them, and walks over k in slices of 64 bytes a row (16 TF32 or 32 shorter numbers), two
// steps of mma each. Three slices are in flight: one is multiplied, the next one is there or about to be, the one after that is being
// fetched; one barrier a slice is enough. The order of additions is that of k, whatever the grid.
//
// How a slice gets into shared memory. TF32 from a matrix in memory: by cp.async, 16 bytes where rows are aligned and 4 elsewhere, two
// slices ahead; it is rounded after it was read from shared memory, because a copy cannot round and mma would cut off, unless it lies
// rounded in memory, as a convolution's weights do. All else goes through registers and is rounded on the way, once: shorter numbers halve in
// width, a gradient behind pooling is compared with its winner, and of a patch each element has an address and a border of its own, so
// that cp.async would need four instructions where one store of 16 bytes does. Tensors stay f32 in memory: twice the bytes of a copy
// in 16 bits, mostly from cache.
//
// Shared memory has no bank conflicts. Operands that run along k lie as [i][64 bytes], others as [k][i]; pieces of 16 bytes change places
// within a row so that the 8 rows of an ldmatrix, and what neighbouring threads store in one go, cover the 32 banks exactly once. TF32
// along i is read word by word (ldmatrix cannot transpose 32 bits): 4 rows of k, turned against each other by 8 banks, times 8 columns.
//
// Cost of a step: 16 KiB read from shared memory and 6 KiB written, 176 cycles at 128 bytes a cycle; with 128 × 128 results 24 and 8 KiB,
// 256 cycles. The arithmetic takes an A100 128 or 256 cycles (512 multiply-adds of TF32 or 1,024 of 16 bits a cycle and multiprocessor) and an
// H100 half of that, so that shared memory limits matrices to 73 or 100 % of an A100's peak and 36 or 50 % of an H100's. Patches are limited by their addresses (docs/kernels.md).
#pragma once
#include "tile_product.cuh"

// What operands are rounded to; a word holds so many numbers. Where SCALES an operand's Scale counts.

// 10 bits behind the point, the exponents of f32.
struct Tf32 {
    static constexpr int IN_A_WORD = 1;
    static constexpr bool SCALES = false;

    __device__ static __forceinline__ void multiply(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) { multiply_tf32(sum, a, b); }
};

// 7 bits behind the point, the exponents of f32.
struct Bf16 {
    static constexpr int IN_A_WORD = 2;
    static constexpr bool SCALES = false;

    __device__ static __forceinline__ u32 word(float low, float high) { return floats_to_bf16(low, high); }
    __device__ static __forceinline__ void multiply(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) { multiply_bf16(sum, a, b); }
};

// Half precision: 10 bits behind the point, from 2^-24 to 65,504.
struct F16 {
    static constexpr int IN_A_WORD = 2;
    static constexpr bool SCALES = true;

    __device__ static __forceinline__ u32 word(float low, float high) { return floats_to_f16(low, high); }
    __device__ static __forceinline__ void multiply(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) { multiply_f16(sum, a, b); }
};

// A number as it is rounded.
template <class Format>
__device__ __forceinline__ float scaled(float value, Scale scale) {
    return Format::SCALES ? value * scale.by : value;
}

template <class Format_, int M_ = 64>
struct TensorTile {
    using Format = Format_;
    static constexpr bool TENSOR_CORES = true;
    static constexpr int M = M_, N = 128, K = 16 * Format::IN_A_WORD;
    static constexpr int STAGES = 3, STEPS = 2;
    static constexpr int WARP_M = M / 2, WARP_N = N / 4;
};

// A slice of an operand with EXTENT rows (of a) or columns (of b).
template <class Format, int EXTENT, bool ALONG_K>
struct TensorSlice {
    static constexpr int WORDS = 16;  // Of one row, over the slice's k.
    alignas(128) u32 words[EXTENT * WORDS];

    // Where element (i, k) lies; k, or i if the operand does not run along k, is a multiple of what a word holds.
    __device__ __forceinline__ u32* at(int i, int k) {
        if (ALONG_K) {
            const int word = k / Format::IN_A_WORD, turn = i / 2 % 2 * 2 + i / 4 % 2;
            return &words[i * WORDS + ((word / 4 ^ turn) * 4 + word % 4)];
        }
        if (Format::IN_A_WORD == 1) return &words[k * EXTENT + (i ^ k % 4 * 8)];
        return &words[k * (EXTENT / 2) + ((i / 8 ^ k % 8) * 4 + i % 8 / 2)];
    }

    // Four neighbours from (i, k) on, along k or along i, rounded.
    __device__ __forceinline__ void store(int i, int k, float4 v) {
        if constexpr (Format::IN_A_WORD == 1)
            store_words(at(i, k), float_to_tf32(v.x), float_to_tf32(v.y), float_to_tf32(v.z), float_to_tf32(v.w));
        else
            store_words(at(i, k), Format::word(v.x, v.y), Format::word(v.z, v.w));
    }

    // This lane's part of 16 rows from i on in one step: two halves of the rows by two of k, in mma's order. Of a the first two registers
    // hold the first half of k, of b the first half of the rows, which are its columns.
    template <bool OF_A>
    __device__ __forceinline__ void load(int i, int step, u32 (&block)[4]) {
        constexpr int HALF = 4 * Format::IN_A_WORD;  // Of a step's k.
        const int k = step * 2 * HALF;
        if (!ALONG_K && Format::IN_A_WORD == 1) {
            const int g = lane() / 4, t = lane() % 4;
#pragma unroll
            for (int r = 0; r < 4; ++r) {
                const int second = r / 2, first = r % 2;
                block[r] = *at(i + g + (OF_A ? first : second) * 8, k + t + (OF_A ? second : first) * HALF);
            }
            return;
        }
        // Lanes 8·r to 8·r + 7 say where the rows of register r's matrix lie.
        const int second = lane() / 16, first = lane() / 8 % 2, inside = lane() % 8;
        const int i_half = i + (OF_A ? first : second) * 8, k_half = k + (OF_A ? second : first) * HALF;
        const Matrices m = ALONG_K ? load_matrices(at(i_half + inside, k_half)) : load_matrices_transposed(at(i_half, k_half + inside));
#pragma unroll
        for (int r = 0; r < 4; ++r) block[r] = m.of[r];
    }
};

// Brings an operand's slices into shared memory: each thread some vectors of four elements. What is asked of an operand is said at
// SliceLoader; one that is a matrix in memory also has copy(k, to), which copies what load(k) would return.
template <class Tile, class Operand, int EXTENT>
struct TensorSliceLoader {
    using Format = typename Tile::Format;
    using Slice = TensorSlice<Format, EXTENT, Operand::along_k>;
    static constexpr bool ASYNC = Operand::in_memory && Format::IN_A_WORD == 1;
    static constexpr int VECTORS = EXTENT * Tile::K / 4 / 256, IN_A_STEP = (VECTORS + Tile::STEPS - 1) / Tile::STEPS;
    // Vectors of a row, or of a row of k, that neighbouring threads take at once.
    static constexpr int ABREAST = Operand::along_k ? 256 / EXTENT : EXTENT / 4;

    Operand operand;
    int i, k;
    float4 fetched[IN_A_STEP];

    __device__ __forceinline__ TensorSliceLoader(Operand operand_, int i0) : operand(operand_) {
        i = Operand::along_k ? threadIdx.x / ABREAST : threadIdx.x % ABREAST * 4;
        k = Operand::along_k ? threadIdx.x % ABREAST * 4 : threadIdx.x / ABREAST;
        operand.prepare(i0 + i);
    }

    // Where vector `v` of a step lies along k.
    __device__ __forceinline__ int place(int step, int v) const {
        return k + (step * IN_A_STEP + v) * (Operand::along_k ? 4 * ABREAST : 256 / ABREAST);
    }
    __device__ __forceinline__ static bool exists(int step, int v) { return step * IN_A_STEP + v < VECTORS; }

    // Begins to bring a step's share of the slice at k0; finish() ends it, some work later.
    __device__ __forceinline__ void begin(Slice& slice, int k0, int step) {
#pragma unroll
        for (int v = 0; v < IN_A_STEP; ++v) {
            if (!exists(step, v)) continue;
            if constexpr (ASYNC)
                operand.copy(k0 + place(step, v), slice.at(i, place(step, v)));
            else
                fetched[v] = operand.load(k0 + place(step, v));
        }
    }
    __device__ __forceinline__ void finish(Slice& slice, int step) const {
        if constexpr (!ASYNC) {
#pragma unroll
            for (int v = 0; v < IN_A_STEP; ++v)
                if (exists(step, v)) slice.store(i, place(step, v), to_round(fetched[v]));
        }
    }

    __device__ __forceinline__ float4 to_round(float4 v) const {
        if constexpr (!Format::SCALES) return v;
        const float scale = operand.scale().by;
        return {v.x * scale, v.y * scale, v.z * scale, v.w * scale};
    }

    template <bool OF_A>
    __device__ __forceinline__ static void load(Slice& slice, int first, int step, u32 (&block)[4]) {
        slice.template load<OF_A>(first, step, block);
        if constexpr (ASYNC) {
            if (Operand::rounded) return;
#pragma unroll
            for (int r = 0; r < 4; ++r) block[r] = float_to_tf32(float_of_bits(block[r]));
        }
    }
};

template <class SliceA, class SliceB>
struct Stage {
    SliceA a;
    SliceB b;
};

template <class Stage, int STAGES>
struct Pipeline {
    Stage stages[STAGES];
};

// Multiplies all numbers of an array, of any depth.
__device__ __forceinline__ void multiply_all(float& number, float by) { number *= by; }
template <class T, int N>
__device__ __forceinline__ void multiply_all(T (&numbers)[N], float by) {
#pragma unroll
    for (int i = 0; i < N; ++i) multiply_all(numbers[i], by);
}

// Hands a warp's sums to `store`, whose first one lies at (row, column).
template <int MS, int NS, class Store>
__device__ __forceinline__ void store_sums(const float (&sum)[MS][NS][4], int row, int column, Store store) {
    // A lane holds two neighbours in each of two rows; it gives one pair to the lane beside it and has four in one row.
    const bool odd = lane() % 2;
    row += lane() / 4 + (odd ? 8 : 0), column += lane() % 4 / 2 * 4;
#pragma unroll
    for (int i = 0; i < MS; ++i)
#pragma unroll
        for (int j = 0; j < NS; ++j) {
            const float (&own)[4] = sum[i][j];
            const float x = __shfl_xor_sync(FULL_WARP, odd ? own[0] : own[2], 1);
            const float y = __shfl_xor_sync(FULL_WARP, odd ? own[1] : own[3], 1);
            store(row + 16 * i, column + 8 * j, odd ? float4{x, y, own[2], own[3]} : float4{own[0], own[1], x, y});
        }
}

// As tile_product.
template <class Tile, class A, class B, class Store>
__device__ __forceinline__ void tensor_product(int m0, int n0, int k_begin, int k_end, A a, B b, Store store) {
    constexpr int K = Tile::K, STAGES = Tile::STAGES, STEPS = Tile::STEPS, WARP_M = Tile::WARP_M, WARP_N = Tile::WARP_N;
    using LoaderA = TensorSliceLoader<Tile, A, Tile::M>;
    using LoaderB = TensorSliceLoader<Tile, B, Tile::N>;
    auto& stages = shared_memory<Pipeline<Stage<typename LoaderA::Slice, typename LoaderB::Slice>, STAGES>>().stages;
    LoaderA load_a(a, m0);
    LoaderB load_b(b, n0);
    const int warp_row = warp() / 4 * WARP_M, warp_column = warp() % 4 * WARP_N;

    float sum[WARP_M / 16][WARP_N / 8][4] = {};
    int stage = 1, into = 0;
    // The first rounds only fetch.
    for (int k0 = k_begin - (STAGES - 1) * K; k0 < k_end; k0 += K) {
        // Of the groups so far, one a slice, the last STAGES - 2 are of slices that come later.
        wait_copies<STAGES - 2>();
        __syncthreads();  // And all are done with the slice before, whose place the next one takes.
        const int next = k0 + (STAGES - 1) * K;
        auto& slices = stages[stage];
        auto& fetched = stages[into];
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            if (next < k_end) {
                load_a.begin(fetched.a, next, step);
                load_b.begin(fetched.b, next, step);
            }
            if (k0 >= k_begin) {
                u32 of_a[WARP_M / 16][4], of_b[WARP_N / 16][4];
#pragma unroll
                for (int i = 0; i < WARP_M / 16; ++i) LoaderA::template load<true>(slices.a, warp_row + 16 * i, step, of_a[i]);
#pragma unroll
                for (int j = 0; j < WARP_N / 16; ++j) LoaderB::template load<false>(slices.b, warp_column + 16 * j, step, of_b[j]);
#pragma unroll
                for (int i = 0; i < WARP_M / 16; ++i)
#pragma unroll
                    for (int j = 0; j < WARP_N / 8; ++j) {
                        const u32 columns[2] = {of_b[j / 2][j % 2 * 2], of_b[j / 2][j % 2 * 2 + 1]};
                        Tile::Format::multiply(sum[i][j], of_a[i], columns);
                    }
            }
            if (next < k_end) {
                load_a.finish(fetched.a, step);
                load_b.finish(fetched.b, step);
            }
        }
        commit_copies();
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        into = into + 1 == STAGES ? 0 : into + 1;
    }

    if constexpr (Tile::Format::SCALES) multiply_all(sum, load_a.operand.scale().back * load_b.operand.scale().back);
    store_sums(sum, m0 + warp_row, n0 + warp_column, store);
}

// The product that the tile asks for.
template <class Tile, class A, class B, class Store>
__device__ __forceinline__ void block_product(int m0, int n0, int k_begin, int k_end, A a, B b, Store store) {
    if constexpr (Tile::TENSOR_CORES)
        tensor_product<Tile>(m0, n0, k_begin, k_end, a, b, store);
    else
        tile_product<Tile>(m0, n0, k_begin, k_end, a, b, store);
}
