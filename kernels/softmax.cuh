// Online softmax statistics: the maximum of the logits seen so far and the sum of exp((z − max) / T), in one pass (Milakov & Gimelshein
// 2018). Two such states merge into that of both sets. The difference is taken before the division, since large logits divided by a
// small T would cancel to noise.
#pragma once
#include "common.cuh"

struct SoftmaxState {
    float max;
    float sum;

    __device__ __forceinline__ static SoftmaxState empty() { return {-infinity(), 0.0f}; }

    // `inverse` is 1 / T, here and below the same for all calls.
    __device__ __forceinline__ void add(float z, float inverse) {
        if (z > max) {
            sum = sum * expf((max - z) * inverse) + 1.0f;
            max = z;
        } else if (z == z) {
            sum += z == max ? 1.0f : expf((z - max) * inverse);
        } else {
            sum = z;  // A NaN stays one.
        }
    }

    __device__ __forceinline__ void merge(SoftmaxState other, float inverse) {
        const float larger = fmaxf(max, other.max);
        // An empty state has nothing to rescale, and ∞ − ∞ is not 0.
        const float own = sum == 0.0f ? 0.0f : (max == larger ? sum : sum * expf((max - larger) * inverse));
        const float rescaled = other.max == larger ? other.sum : other.sum * expf((other.max - larger) * inverse);
        const float others = other.sum == 0.0f ? 0.0f : rescaled;
        max = larger;
        sum = own + others;
    }

    // log softmax(z / T) = (z − max) / T − log_sum().
    __device__ __forceinline__ float log_sum() const { return logf(sum); }
    __device__ __forceinline__ float log_softmax(float z, float inverse, float log_sum) const { return (z - max) * inverse - log_sum; }
};

__device__ __forceinline__ SoftmaxState warp_merge(SoftmaxState state, float inverse) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        const SoftmaxState other = {__shfl_xor_sync(FULL_WARP, state.max, distance), __shfl_xor_sync(FULL_WARP, state.sum, distance)};
        // Both lanes of a pair merge in the same order, so that all lanes hold the same bits.
        SoftmaxState first = lane() & distance ? other : state;
        first.merge(lane() & distance ? state : other, inverse);
        state = first;
    }
    return state;
}

// The threads that share a row: one warp, or the whole block. They reduce sums and softmax states among themselves.
struct WarpTeam {
    static constexpr bool whole_block = false;
    __device__ __forceinline__ static int rank() { return lane(); }
    __device__ __forceinline__ static int size() { return WARP; }
    __device__ __forceinline__ static u32 row() { return grid_thread() / WARP; }
    __device__ __forceinline__ static u32 rows() { return grid_threads() / WARP; }
    __device__ __forceinline__ static float sum(float value) { return warp_reduce(value, Add()); }
    __device__ __forceinline__ static SoftmaxState merge(SoftmaxState state, float inverse) { return warp_merge(state, inverse); }
};

struct BlockTeam {
    static constexpr bool whole_block = true;
    __device__ __forceinline__ static int rank() { return threadIdx.x; }
    __device__ __forceinline__ static int size() { return blockDim.x; }
    __device__ __forceinline__ static u32 row() { return blockIdx.x; }
    __device__ __forceinline__ static u32 rows() { return gridDim.x; }
    __device__ __forceinline__ static float sum(float value) { return block_reduce(value, Add()); }

    __device__ __forceinline__ static SoftmaxState merge(SoftmaxState state, float inverse) {
        auto& results = shared_memory<WarpResults<SoftmaxState>>();
        state = warp_merge(state, inverse);
        __syncthreads();  // An earlier call's results may still be read.
        if (lane() == 0) results.of_warp[warp()] = state;
        __syncthreads();
        state = results.of_warp[0];
        for (int i = 1; i < int(blockDim.x) / WARP; ++i) state.merge(results.of_warp[i], inverse);
        return state;
    }
};
