// Depthwise convolutions: every group has one input channel, so there is nothing for a matrix product to sum over but the taps. A thread
// owns one output (forward) or one input pixel (input gradient: it gathers from the outputs that see it); neighbouring threads own
// neighbouring pixels, so that each tap is one coalesced read, nearly always from cache. A block owns one tap of one channel's weight
// gradient and sums over all pixels in a fixed order. 2 operations for each tap and 4 bytes moved for each pixel: limited by memory.
#include "conv2d.cuh"

extern "C" __global__ void __launch_bounds__(256)
    conv2d_depthwise(Conv g, const float* x, const float* weight, const float* bias, int clip, float* y, u32 n) {
    const u32 area = u32(g.out_h) * u32(g.out_w);
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const u32 plane = i / area, channel = plane % u32(g.c_out), image = plane / u32(g.c_out);
        const int inside = int(i % area), top = inside / g.out_w * g.stride_h - g.pad_h, left = inside % g.out_w * g.stride_w - g.pad_w;
        const float* from = x + image * u32(g.c_in) * u32(g.h) * u32(g.w);
        const float* taps = weight + channel * u32(g.taps());
        const int own = int(channel) / g.out_per_group();
        float sum = bias ? bias[channel] : 0.0f;
        for (int ky = 0; ky < g.kh; ++ky)
            for (int kx = 0; kx < g.kw; ++kx)
                sum += patch_element(g, from, own, top + ky * g.dilation_h, left + kx * g.dilation_w) * taps[ky * g.kw + kx];
        y[i] = clip ? relu(sum) : sum;
    }
}

extern "C" __global__ void __launch_bounds__(256)
    conv2d_depthwise_grad_input(Conv g, const float* dy, const float* weight, float* dx, u32 n) {
    const u32 area = u32(g.h) * u32(g.w);
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const u32 plane = i / area, image = plane / u32(g.c_in);
        const int channel = int(plane % u32(g.c_in)), y = int(i % area) / g.w + g.pad_h, x = int(i % area) % g.w + g.pad_w;
        float sum = 0.0f;
        // Unrolled, the divisions by the strides would take more registers than there are.
#pragma unroll 1
        for (int out = channel * g.out_per_group(); out < (channel + 1) * g.out_per_group(); ++out)
#pragma unroll 1
            for (int ky = 0; ky < g.kh; ++ky)
#pragma unroll 1
                for (int kx = 0; kx < g.kw; ++kx) {
                    const int from_y = y - ky * g.dilation_h, from_x = x - kx * g.dilation_w;
                    if (from_y < 0 || from_x < 0 || from_y % g.stride_h != 0 || from_x % g.stride_w != 0) continue;
                    const int out_y = from_y / g.stride_h, out_x = from_x / g.stride_w;
                    if (out_y < g.out_h && out_x < g.out_w)
                        sum += gradient_at(g, DenseGradient{dy}, int(image), out, out_y, out_x) * weight[(out * g.kh + ky) * g.kw + kx];
                }
        dx[i] = sum;
    }
}

// The block with blockIdx = (tap, output channel).
extern "C" __global__ void __launch_bounds__(256) conv2d_depthwise_grad_weight(Conv g, const float* x, const float* dy, float* dw) {
    const int tap = blockIdx.x, out = blockIdx.y, channel = out / g.out_per_group();
    const int down = tap / g.kw * g.dilation_h - g.pad_h, right = tap % g.kw * g.dilation_w - g.pad_w;
    const int area = g.out_h * g.out_w, count = g.n * area;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const int image = i / area, out_y = i % area / g.out_w, out_x = i % g.out_w;
        const float* from = x + u32(image) * u32(g.c_in) * u32(g.h) * u32(g.w);
        sum += gradient_at(g, DenseGradient{dy}, image, out, out_y, out_x) *
               patch_element(g, from, channel, out_y * g.stride_h + down, out_x * g.stride_w + right);
    }
    sum = block_reduce(sum, Add());
    if (threadIdx.x == 0) dw[out * g.taps() + tap] = sum;
}
