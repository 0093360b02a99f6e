// Relations between samples and summaries of feature maps, for relation- and attention-based distillation. (Gram matrices are matrix
// products of a tensor with itself, transposed: matmul.cu.)
//
// Pairwise squared distances: a block owns a tile of 32 × 32 pairs and walks over the features in slices of 32, which both sides bring
// into shared memory; a thread owns four pairs. Differences are squared as they are, since |x|² + |y|² − 2·x·y would cancel for near
// samples. 3 operations for each pair and feature, 2 slices read for 3 · 32³ operations: limited by arithmetic.
#include "common.cuh"

constexpr int SIDE = 32;

struct PairSlices {
    float rows[SIDE][SIDE + 1];  // One more, so that a column's elements lie in different banks.
    float columns[SIDE][SIDE + 1];
};

// distances[i][j] = Σ (x[i] − x[j])².
extern "C" __global__ void __launch_bounds__(256) pairwise_distances(const float* x, float* distances, u32 n, u32 features) {
    auto& slices = shared_memory<PairSlices>();
    const u32 row0 = blockIdx.y * SIDE, column0 = blockIdx.x * SIDE;
    const u32 tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    float sum[2][2] = {};
    for (u32 first = 0; first < features; first += SIDE) {
        for (u32 i = threadIdx.x; i < SIDE * SIDE; i += blockDim.x) {
            const u32 sample = i / SIDE, feature = first + i % SIDE;
            const bool inside = feature < features;
            slices.rows[sample][i % SIDE] = inside && row0 + sample < n ? x[(row0 + sample) * features + feature] : 0.0f;
            slices.columns[sample][i % SIDE] = inside && column0 + sample < n ? x[(column0 + sample) * features + feature] : 0.0f;
        }
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < SIDE; ++k)
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int j = 0; j < 2; ++j) {
                    const float d = slices.rows[ty + 16 * i][k] - slices.columns[tx + 16 * j][k];
                    sum[i][j] += d * d;
                }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const u32 row = row0 + ty + 16 * i, column = column0 + tx + 16 * j;
            if (row < n && column < n) distances[row * n + column] = sum[i][j];
        }
}

// dx[i] = Σ over j of 2 · (dy[i][j] + dy[j][i]) · (x[i] − x[j]), in the order of j. A thread owns a feature of a sample.
extern "C" __global__ void __launch_bounds__(256)
    pairwise_distances_grad(const float* x, const float* dy, float* dx, u32 n, u32 features) {
    for (u32 at = grid_thread(); at < n * features; at += grid_threads()) {
        const u32 i = at / features, feature = at % features;
        const float own = x[at];
        float sum = 0.0f;
        for (u32 j = 0; j < n; ++j) sum += (dy[i * n + j] + dy[j * n + i]) * (own - x[j * features + feature]);
        dx[at] = 2.0f * sum;
    }
}

// |x|^power, without powf for the powers that papers use.
__device__ __forceinline__ float power_of(float x, float power) {
    const float size = fabsf(x);
    if (power == 2.0f) return size * size;
    if (power == 1.0f) return size;
    return powf(size, power);
}

// Attention maps (Zagoruyko & Komodakis 2017): map[n][position] = Σ over channels of |x|^power. A thread owns a position; neighbours read
// neighbouring positions of each channel. Reads each feature once: limited by memory.
extern "C" __global__ void __launch_bounds__(256)
    attention_map(const float* x, float* map, float power, u32 n, u32 channels, u32 area) {
    for (u32 i = grid_thread(); i < n * area; i += grid_threads()) {
        const float* from = x + i / area * channels * area + i % area;
        float sum = 0.0f;
        for (u32 c = 0; c < channels; ++c) sum += power_of(from[c * area], power);
        map[i] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(256)
    attention_map_grad(const float* x, const float* dy, float* dx, float power, u32 n, u32 channels, u32 area) {
    for (u32 i = grid_thread(); i < n * channels * area; i += grid_threads()) {
        const float value = x[i], sign = value > 0.0f ? 1.0f : (value < 0.0f ? -1.0f : 0.0f);
        const float slope = value == 0.0f ? 0.0f : power * power_of(value, power - 1.0f) * sign;
        dx[i] = dy[i / (channels * area) * area + i % area] * slope;
    }
}
