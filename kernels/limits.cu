// The limit that other kernels are measured against: each thread keeps eight independent chains of fused multiply-adds in registers,
// enough to cover their latency, and touches memory once at the end. 16 operations a thread and round.
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
