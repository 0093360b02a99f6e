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

// 1 / √square; 0 where there is no direction.
__device__ __forceinline__ float inverse_length(float square) { return square > 1e-24f ? 1.0f / sqrtf(square) : 0.0f; }

// The slope of the Huber loss with bound 1.
__device__ __forceinline__ float huber_slope(float x) { return fminf(fmaxf(x, -1.0f), 1.0f); }

// Angles of all triplets (Park et al. 2019) from squared distances d, cos_ijk = ½ (d_ij + d_ik − d_jk) / √(d_ij · d_ik):
// losses[j][t] = Σ over i of H(cos_s − cos_t) of the angles between j and t, and the gradient of the sum of all losses by the student's
// distances, of which [j][t] holds a half. A thread owns a pair (j, t); for each m, both angles that the pair is a part of come from the
// same three distances: the one at m between j and t, and the one at t between j and m. Nothing of size n³ is ever stored; about 40
// operations for each triplet and two coalesced reads, the others of a warp's are broadcast or in registers: limited by arithmetic.
extern "C" __global__ void __launch_bounds__(256)
    angle_losses(const float* student, const float* teacher, float* losses, float* gradients, u32 n) {
    for (u32 at = grid_thread(); at < n * n; at += grid_threads()) {
        const u32 j = at / n, t = at % n;
        const float d_s = student[at], d_t = teacher[at];
        const float r_s = inverse_length(d_s), r_t = inverse_length(d_t);
        float loss = 0.0f, gradient = 0.0f;
        for (u32 m = 0; m < n; ++m) {
            const float a_s = student[j * n + m], b_s = student[m * n + t];
            const float a_t = teacher[j * n + m], b_t = teacher[m * n + t];
            const float ra_s = inverse_length(a_s), rb_s = inverse_length(b_s);
            const float ra_t = inverse_length(a_t), rb_t = inverse_length(b_t);
            const float across = ra_s * rb_s;
            const float difference = 0.5f * (a_s + b_s - d_s) * across - 0.5f * (a_t + b_t - d_t) * (ra_t * rb_t);
            const float slope = huber_slope(difference);
            loss += slope * (difference - 0.5f * slope);
            gradient -= 0.5f * slope * across;
            // The other angle counts for both orders of its two sides.
            const float along = r_s * rb_s, cosine = 0.5f * (d_s + b_s - a_s) * along;
            const float other = huber_slope(cosine - 0.5f * (d_t + b_t - a_t) * (r_t * rb_t));
            gradient += other * (along - cosine * r_s * r_s);
        }
        losses[at] = loss;
        gradients[at] = gradient;
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
