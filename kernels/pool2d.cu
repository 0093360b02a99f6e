// Pooling and its gradients: a thread owns one output (forward) or one input pixel (backward: it gathers from the windows that cover it,
// in order, so that nothing is added atomically). Neighbouring threads own neighbouring pixels. Limited by memory: each image is read once,
// overlapping windows from cache.
#include "common.cuh"

struct Pool {
    int h, w, kernel, stride, padding, out_h, out_w;
};

// Which outputs' windows cover position `at`: from (at + padding − kernel + 1) / stride, rounded up, to (at + padding) / stride.
__device__ __forceinline__ int first_window(const Pool& p, int at) {
    const int reach = at + p.padding - p.kernel + 1;
    return reach <= 0 ? 0 : (reach + p.stride - 1) / p.stride;
}
__device__ __forceinline__ int end_window(const Pool& p, int at, int outputs) {
    return min((at + p.padding) / p.stride + 1, outputs);
}

// The maximum (ties: the first; padding is −∞) and where it lies in its image.
extern "C" __global__ void __launch_bounds__(256) max_pool2d(Pool p, const float* x, float* y, int* index, u32 n) {
    const u32 area = p.out_h * p.out_w;
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const int inside = i % area;
        const float* image = x + i / area * u32(p.h * p.w);
        const int top = inside / p.out_w * p.stride - p.padding, left = inside % p.out_w * p.stride - p.padding;
        float best = -infinity();
        int place = -1;
        for (int row = max(top, 0); row < min(top + p.kernel, p.h); ++row)
            for (int column = max(left, 0); column < min(left + p.kernel, p.w); ++column) {
                const float value = image[row * p.w + column];
                if (place < 0 || value > best || (value != value && best == best)) {
                    best = value;
                    place = row * p.w + column;
                }
            }
        y[i] = best;
        index[i] = place;
    }
}

extern "C" __global__ void __launch_bounds__(256)
    max_pool2d_grad(Pool p, const float* dy, const int* index, float* dx, u32 n) {
    const u32 area = p.h * p.w;
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const int inside = i % area, row = inside / p.w, column = inside % p.w;
        const u32 outputs = i / area * u32(p.out_h * p.out_w);
        float sum = 0.0f;
        for (int y = first_window(p, row); y < end_window(p, row, p.out_h); ++y)
            for (int x = first_window(p, column); x < end_window(p, column, p.out_w); ++x) {
                const u32 at = outputs + u32(y * p.out_w + x);
                if (index[at] == inside) sum += dy[at];
            }
        dx[i] = sum;
    }
}

// The mean of each window; padding counts as zeros.
extern "C" __global__ void __launch_bounds__(256) avg_pool2d(Pool p, const float* x, float* y, u32 n) {
    const u32 area = p.out_h * p.out_w;
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const int inside = i % area;
        const float* image = x + i / area * u32(p.h * p.w);
        const int top = inside / p.out_w * p.stride - p.padding, left = inside % p.out_w * p.stride - p.padding;
        float sum = 0.0f;
        for (int row = max(top, 0); row < min(top + p.kernel, p.h); ++row)
            for (int column = max(left, 0); column < min(left + p.kernel, p.w); ++column) sum += image[row * p.w + column];
        y[i] = sum / float(p.kernel * p.kernel);
    }
}

extern "C" __global__ void __launch_bounds__(256) avg_pool2d_grad(Pool p, const float* dy, float* dx, u32 n) {
    const u32 area = p.h * p.w;
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const int inside = i % area, row = inside / p.w, column = inside % p.w;
        const float* outputs = dy + i / area * u32(p.out_h * p.out_w);
        float sum = 0.0f;
        for (int y = first_window(p, row); y < end_window(p, row, p.out_h); ++y)
            for (int x = first_window(p, column); x < end_window(p, column, p.out_w); ++x) sum += outputs[y * p.out_w + x];
        dx[i] = sum / float(p.kernel * p.kernel);
    }
}

// Bin i of `bins` over `extent` pixels goes from ⌊i · extent / bins⌋ to ⌈(i + 1) · extent / bins⌉.
__device__ __forceinline__ int bin_start(int i, int bins, int extent) { return i * extent / bins; }
__device__ __forceinline__ int bin_end(int i, int bins, int extent) { return ((i + 1) * extent + bins - 1) / bins; }

extern "C" __global__ void __launch_bounds__(256)
    adaptive_avg_pool2d(const float* x, float* y, int h, int w, int out_h, int out_w, u32 n) {
    const u32 area = out_h * out_w;
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const int inside = i % area, out_y = inside / out_w, out_x = inside % out_w;
        const float* image = x + i / area * u32(h * w);
        const int top = bin_start(out_y, out_h, h), bottom = bin_end(out_y, out_h, h);
        const int left = bin_start(out_x, out_w, w), right = bin_end(out_x, out_w, w);
        float sum = 0.0f;
        for (int row = top; row < bottom; ++row)
            for (int column = left; column < right; ++column) sum += image[row * w + column];
        y[i] = sum / float((bottom - top) * (right - left));
    }
}

extern "C" __global__ void __launch_bounds__(256)
    adaptive_avg_pool2d_grad(const float* dy, float* dx, int h, int w, int out_h, int out_w, u32 n) {
    const u32 area = h * w;
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        const int inside = i % area, row = inside / w, column = inside % w;
        const float* outputs = dy + i / area * u32(out_h * out_w);
        float sum = 0.0f;
        // Bins overlap by at most one pixel, so a pixel lies in its proportional bin and perhaps in the ones around it.
        for (int y = max(row * out_h / h - 1, 0); y < out_h && bin_start(y, out_h, h) <= row; ++y)
            for (int x = max(column * out_w / w - 1, 0); x < out_w && bin_start(x, out_w, w) <= column; ++x) {
                const int rows = bin_end(y, out_h, h) - bin_start(y, out_h, h);
                const int columns = bin_end(x, out_w, w) - bin_start(x, out_w, w);
                if (row < bin_end(y, out_h, h) && column < bin_end(x, out_w, w))
                    sum += outputs[y * out_w + x] / float(rows * columns);
            }
        dx[i] = sum;
    }
}
