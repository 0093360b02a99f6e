// Batched matrix products c = op(a) · op(b), then a bias for each column and ReLU if asked for. One block computes one tile
// (tile_product.cuh in f32, tensor_product.cuh in TF32 and bfloat16); the transposes differ only in the direction in which operands are
// read, and are coalesced in all four cases. Where there are few tiles and long sums, k is split among blocks, and a second launch adds
// the parts up in order. 2·m·n·k operations on 4·(m·k + k·n + m·n) bytes: limited by arithmetic from sizes of a few
// hundred on.
#include "tensor_product.cuh"

struct MatmulSizes {
    int m, n, k;
    int b_is_shared;  // One matrix b serves the whole batch.
    int relu;
    int splits, stretch;  // Of k, among blocks; with several, sums [split, batch, m, n] without a bias or ReLU are written.
    Scale scale_a, scale_b;
};

template <class Tile, bool TRANSPOSE_A, bool TRANSPOSE_B>
__device__ __forceinline__ void matmul(MatmulSizes s, const float* a, const float* b, const float* bias, float* c) {
    const int split = blockIdx.z % s.splits, first = split * s.stretch;
    const u32 batch = blockIdx.z / s.splits;
    const Matrix<!TRANSPOSE_A> operand_a = {a + batch * u32(s.m) * u32(s.k), s.m, s.k, 0, s.scale_a};
    const Matrix<TRANSPOSE_B> operand_b = {b + (s.b_is_shared ? 0 : batch * u32(s.k) * u32(s.n)), s.n, s.k, 0, s.scale_b};
    float* result = c + (u32(split) * (gridDim.z / s.splits) + batch) * u32(s.m) * u32(s.n);
    block_product<Tile>(blockIdx.y * Tile::M, blockIdx.x * Tile::N, first, min(first + s.stretch, s.k), operand_a, operand_b,
                        [&](int row, int column, float4 v) {
                            if (row >= s.m) return;
                            if (bias) {
                                if (column < s.n) v.x += bias[column];
                                if (column + 1 < s.n) v.y += bias[column + 1];
                                if (column + 2 < s.n) v.z += bias[column + 2];
                                if (column + 3 < s.n) v.w += bias[column + 3];
                            }
                            if (s.relu && s.splits == 1) v = {relu(v.x), relu(v.y), relu(v.z), relu(v.w)};
                            store_row(result + u32(row) * u32(s.n), column, s.n, v);
                        });
}

template <class Format>
using LargeTensorTile = TensorTile<Format, 128>;

// Names say how a and b are read: n as they are, t transposed. BLOCKS share a multiprocessor; for
// two of them matmul_tt_large_f16, which no gradient needs, lacks two registers on sm_80.
#define MATMUL(NAME, TILE, BLOCKS, TRANSPOSE_A, TRANSPOSE_B)                                                                  \
    extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                                 \
        NAME(MatmulSizes sizes, const float* a, const float* b, const float* bias, float* c) {                                \
        matmul<TILE, TRANSPOSE_A, TRANSPOSE_B>(sizes, a, b, bias, c);                                                         \
    }

MATMUL(matmul_nn_large, LargeTile, 1, false, false)
MATMUL(matmul_nt_large, LargeTile, 1, false, true)
MATMUL(matmul_tn_large, LargeTile, 1, true, false)
MATMUL(matmul_tt_large, LargeTile, 1, true, true)
MATMUL(matmul_nn_small, SmallTile, 1, false, false)
MATMUL(matmul_nt_small, SmallTile, 1, false, true)
MATMUL(matmul_tn_small, SmallTile, 1, true, false)
MATMUL(matmul_tt_small, SmallTile, 1, true, true)
MATMUL(matmul_nn_tf32, TensorTile<Tf32>, 2, false, false)
MATMUL(matmul_nt_tf32, TensorTile<Tf32>, 2, false, true)
MATMUL(matmul_tn_tf32, TensorTile<Tf32>, 2, true, false)
MATMUL(matmul_tt_tf32, TensorTile<Tf32>, 2, true, true)
MATMUL(matmul_nn_large_tf32, LargeTensorTile<Tf32>, 2, false, false)
MATMUL(matmul_nt_large_tf32, LargeTensorTile<Tf32>, 2, false, true)
MATMUL(matmul_tn_large_tf32, LargeTensorTile<Tf32>, 2, true, false)
MATMUL(matmul_tt_large_tf32, LargeTensorTile<Tf32>, 2, true, true)
MATMUL(matmul_nn_bf16, TensorTile<Bf16>, 2, false, false)
MATMUL(matmul_nt_bf16, TensorTile<Bf16>, 2, false, true)
MATMUL(matmul_tn_bf16, TensorTile<Bf16>, 2, true, false)
MATMUL(matmul_tt_bf16, TensorTile<Bf16>, 2, true, true)
MATMUL(matmul_nn_f16, TensorTile<F16>, 2, false, false)
MATMUL(matmul_nt_f16, TensorTile<F16>, 2, false, true)
MATMUL(matmul_tn_f16, TensorTile<F16>, 2, true, false)
MATMUL(matmul_tt_f16, TensorTile<F16>, 2, true, true)
MATMUL(matmul_nn_large_bf16, LargeTensorTile<Bf16>, 2, false, false)
MATMUL(matmul_nt_large_bf16, LargeTensorTile<Bf16>, 2, false, true)
MATMUL(matmul_tn_large_bf16, LargeTensorTile<Bf16>, 2, true, false)
MATMUL(matmul_tt_large_bf16, LargeTensorTile<Bf16>, 2, true, true)
MATMUL(matmul_nn_large_f16, LargeTensorTile<F16>, 2, false, false)
MATMUL(matmul_nt_large_f16, LargeTensorTile<F16>, 2, false, true)
MATMUL(matmul_tn_large_f16, LargeTensorTile<F16>, 2, true, false)
MATMUL(matmul_tt_large_f16, LargeTensorTile<F16>, 1, true, true)

// Adds up the splits' sums, in order, and finishes what they left out: n results [batch, m, n].
extern "C" __global__ void __launch_bounds__(256) matmul_sum(MatmulSizes s, const float* sums, const float* bias, float* c, u32 n) {
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        float sum = 0.0f;
#pragma unroll 8
        for (int split = 0; split < s.splits; ++split) sum += sums[u32(split) * n + i];
        if (bias) sum += bias[i % u32(s.n)];
        c[i] = s.relu ? relu(sum) : sum;
    }
}
