// What several kernel families share: indices, reductions in a fixed order, random numbers.
#pragma once
#include "device.cuh"

constexpr u32 FULL_WARP = 0xffffffffu;
constexpr int WARP = 32;

// A shape has up to so many dimensions, as in src/tensor/shape.rs.
constexpr int MAX_RANK = 6;

// Samples with this label do not count.
constexpr int IGNORE_INDEX = -100;

// Position of this thread in a one-dimensional grid, and the number of threads in it: loops stride over the grid, so that any
// grid computes the same.
__device__ __forceinline__ u32 grid_thread() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ u32 grid_threads() { return gridDim.x * blockDim.x; }

__device__ __forceinline__ int lane() { return threadIdx.x % WARP; }
__device__ __forceinline__ int warp() { return threadIdx.x / WARP; }

__device__ __forceinline__ float infinity() { return float_of_bits(0x7f800000u); }
__device__ __forceinline__ float not_a_number() { return float_of_bits(0x7fffffffu); }

struct Add {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
struct Max {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// All lanes get f over the warp's 32 values.
template <class T, class F>
__device__ __forceinline__ T warp_reduce(T value, F f) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) value = f(value, __shfl_xor_sync(FULL_WARP, value, distance));
    return value;
}

template <class T>
struct WarpResults {
    T of_warp[32];
};

// All threads get f over the block's values: first within each warp, then over the warps in order. Every thread must call it.
template <class T, class F>
__device__ __forceinline__ T block_reduce(T value, F f) {
    auto& results = shared_memory<WarpResults<T>>();
    value = warp_reduce(value, f);
    __syncthreads();  // An earlier call's results may still be read.
    if (lane() == 0) results.of_warp[warp()] = value;
    __syncthreads();
    value = results.of_warp[0];
    for (int i = 1; i < int(blockDim.x) / WARP; ++i) value = f(value, results.of_warp[i]);
    return value;
}

// max(x, 0), but NaN where x is: a broken number must not look like a quiet neuron.
__device__ __forceinline__ float relu(float x) { return x < 0.0f ? 0.0f : x; }

// Philox 4x32-10 (Salmon et al., SC 2011): four random words for one counter value, as in src/tensor/random.rs.
struct Rng {
    u64 seed;
    u64 stream;
};

struct Words {
    u32 of[4];
};

__device__ inline Words philox(Rng rng, u64 counter) {
    u32 c0 = u32(counter), c1 = u32(counter >> 32), c2 = u32(rng.stream), c3 = u32(rng.stream >> 32);
    u32 k0 = u32(rng.seed), k1 = u32(rng.seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const u64 p0 = u64(0xD2511F53u) * c0, p1 = u64(0xCD9E8D57u) * c2;
        c0 = u32(p1 >> 32) ^ c1 ^ k0;
        c2 = u32(p0 >> 32) ^ c3 ^ k1;
        c1 = u32(p1);
        c3 = u32(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// 24 random bits as a number in [0, 1).
__device__ __forceinline__ float unit_float(u32 bits) { return float(bits >> 8) * (1.0f / 16777216.0f); }
