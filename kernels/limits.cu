// The limits that other kernels are measured against: each thread keeps eight independent chains of fused multiply-adds in registers,
// enough to cover their latency, and touches memory once at the end. 16 operations a thread and round; on tensor cores, where a warp keeps
// eight chains of products of matrices, 8 · 2 · 16 · 8 · 8 (TF32) or · 16 (shorter formats) a warp and round.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) multiply_adds(float* out, u32 rounds) {
    constexpr int CHAINS = 8;
    float chain[CHAINS];
#pragma unroll
    for (int i = 0; i < CHAINS; ++i) chain[i] = float(threadIdx.x + i);
    for (u32 round = 0; round < rounds; ++round)
#pragma unroll
        for (int i = 0; i < CHAINS; ++i) chain[i] = chain[i] * 0.5f + 0.5f;
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < CHAINS; ++i) sum += chain[i];
    out[grid_thread()] = sum;
}

// Every product is 1/4 · 1/4, so that a sum grows by K / 16 in a round.
template <class Multiply>
__device__ __forceinline__ void tensor_multiply_adds(float* out, u32 rounds, u32 quarter, Multiply multiply) {
    constexpr int CHAINS = 8;
    float sums[CHAINS][4];
#pragma unroll
    for (int i = 0; i < CHAINS; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] = float(i);
    const u32 a[4] = {quarter, quarter, quarter, quarter}, b[2] = {quarter, quarter};
    for (u32 round = 0; round < rounds; ++round)
#pragma unroll
        for (int i = 0; i < CHAINS; ++i) multiply(sums[i], a, b);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < CHAINS; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sum += sums[i][j];
    out[grid_thread()] = sum;
}

extern "C" __global__ void __launch_bounds__(256) multiply_adds_tf32(float* out, u32 rounds) {
    tensor_multiply_adds(out, rounds, 0x3e800000u, multiply_tf32);
}

extern "C" __global__ void __launch_bounds__(256) multiply_adds_bf16(float* out, u32 rounds) {
    tensor_multiply_adds(out, rounds, 0x3e803e80u, multiply_bf16);
}

extern "C" __global__ void __launch_bounds__(256) multiply_adds_f16(float* out, u32 rounds) {
    tensor_multiply_adds(out, rounds, 0x34003400u, multiply_f16);
}
