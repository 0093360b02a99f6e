// Convolution of images with few channels (c_in ≤ 4, kernels of at most 49 taps), where a matrix product would spend its tile on padding:
// with one channel and 3×3 taps the sums have nine terms. A thread owns one output pixel, or one pooling window, and 16 or 8 output
// channels; its patch stays in cache and registers, and the weights stand in shared memory as [term][channel], which all threads of a
// warp read at the same address. Limited by the output it writes: 4 bytes a result, of which pooling leaves a quarter.
#include "conv2d.cuh"

constexpr int MAX_TERMS = 4 * 49;

template <int CHANNELS>
struct FirstWeights {
    float of[MAX_TERMS][CHANNELS];
    float bias[CHANNELS];
};

template <int CHANNELS>
__device__ __forceinline__ FirstWeights<CHANNELS>& load_weights(const Conv& g, int channel0, const float* weight, const float* bias) {
    auto& weights = shared_memory<FirstWeights<CHANNELS>>();
    const int terms = g.c_in * g.taps();
    for (int i = threadIdx.x; i < terms * CHANNELS; i += blockDim.x) {
        const int channel = channel0 + i / terms;
        weights.of[i % terms][i / terms] = channel < g.c_out ? weight[channel * terms + i % terms] : 0.0f;
    }
    for (int i = threadIdx.x; i < CHANNELS; i += blockDim.x)
        weights.bias[i] = bias && channel0 + i < g.c_out ? bias[channel0 + i] : 0.0f;
    __syncthreads();
    return weights;
}

// Adds the patch of one output pixel, times the weights, to CHANNELS sums.
template <int CHANNELS>
__device__ __forceinline__ void add_patch(const Conv& g, const FirstWeights<CHANNELS>& weights, const float* image, int y, int x,
                                          float (&sum)[CHANNELS]) {
    for (int term = 0, channel = 0; channel < g.c_in; ++channel)
        for (int ky = 0; ky < g.kh; ++ky)
            for (int kx = 0; kx < g.kw; ++kx, ++term) {
                const float value = patch_element(g, image, channel, y * g.stride_h - g.pad_h + ky * g.dilation_h,
                                                  x * g.stride_w - g.pad_w + kx * g.dilation_w);
#pragma unroll
                for (int c = 0; c < CHANNELS; ++c) sum[c] += value * weights.of[term][c];
            }
}

extern "C" __global__ void __launch_bounds__(256)
    conv2d_first(Conv g, const float* x, const float* weight, const float* bias, int clip, float* y) {
    constexpr int CHANNELS = 16;
    const int channel0 = blockIdx.y * CHANNELS, area = g.out_h * g.out_w;
    const auto& weights = load_weights<CHANNELS>(g, channel0, weight, bias);
    const int q = int(grid_thread());
    if (q >= g.n * area) return;
    const Pixel p = output_pixel<false>(g, q);
    float sum[CHANNELS] = {};
    add_patch(g, weights, x + u32(p.image) * u32(g.c_in * g.h * g.w), p.y, p.x, sum);
    float* out = y + (u32(p.image) * u32(g.c_out) + u32(channel0)) * u32(area) + u32(q % area);
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c)
        if (channel0 + c < g.c_out) {
            const float value = sum[c] + weights.bias[c];
            out[u32(c) * u32(area)] = clip ? relu(value) : value;
        }
}

extern "C" __global__ void __launch_bounds__(256)
    conv2d_first_relu_pool(Conv g, const float* x, const float* weight, const float* bias, float* y, u8* winners) {
    constexpr int CHANNELS = 8;
    const int channel0 = blockIdx.y * CHANNELS, area = g.pooled_h() * g.pooled_w();
    const auto& weights = load_weights<CHANNELS>(g, channel0, weight, bias);
    const int window = int(grid_thread());
    if (window >= g.n * area) return;
    const Pixel p = output_pixel<true>(g, 4 * window);
    const float* image = x + u32(p.image) * u32(g.c_in * g.h * g.w);
    float sum[4][CHANNELS] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i) add_patch(g, weights, image, p.y + i / 2, p.x + i % 2, sum[i]);
    const u32 first = (u32(p.image) * u32(g.c_out) + u32(channel0)) * u32(area) + u32(window % area);
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c)
        if (channel0 + c < g.c_out) {
            const float shift = weights.bias[c];
            const float values[4] = {sum[0][c] + shift, sum[1][c] + shift, sum[2][c] + shift, sum[3][c] + shift};
            pool_window(values, y[first + u32(c) * u32(area)], winners[first + u32(c) * u32(area)]);
        }
}
