// Batch and layer normalisation, forward and backward. Both read what they normalise three times (mean, variance around the mean, result),
// the second and third time mostly from cache, and are limited by memory. The variance is taken around the mean in a pass of its own:
// E[x²] − E[x]² cancels.
#include "softmax.cuh"

// Batch norm: a block owns a channel of [n, channels, area]. Calls f(position) for this thread's elements.
template <class F>
__device__ __forceinline__ void for_each_of_channel(u32 channel, u32 n, u32 channels, u32 area, F f) {
    const u32 count = n * area;
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) f((i / area * channels + channel) * area + i % area);
}

extern "C" __global__ void __launch_bounds__(512)
    batch_norm(const float* x, const float* weight, const float* bias, float eps, float* y, float* mean, float* var, float* rstd, u32 n,
               u32 channels, u32 area) {
    const u32 channel = blockIdx.x;
    const double count = double(n) * double(area);
    double sum = 0.0;
    for_each_of_channel(channel, n, channels, area, [&](u32 i) { sum += double(x[i]); });
    const double centre = block_reduce(sum, Add()) / count;
    double squares = 0.0;
    for_each_of_channel(channel, n, channels, area, [&](u32 i) {
        const double d = double(x[i]) - centre;
        squares += d * d;
    });
    const double variance = block_reduce(squares, Add()) / count;
    const float scale = float(1.0 / sqrt(variance + double(eps))), shift = float(centre);
    const float w = weight[channel], b = bias[channel];
    for_each_of_channel(channel, n, channels, area, [&](u32 i) { y[i] = (x[i] - shift) * scale * w + b; });
    if (threadIdx.x == 0) {
        mean[channel] = shift;
        var[channel] = float(variance);
        rstd[channel] = scale;
    }
}

// With x̂ = (x − mean) · rstd:  db = Σ dy,  dw = Σ dy · x̂,  dx = w · rstd · (dy − db / count − x̂ · dw / count).
extern "C" __global__ void __launch_bounds__(512)
    batch_norm_grad(const float* x, const float* weight, const float* dy, const float* mean, const float* rstd, float* dx, float* dw,
                    float* db, u32 n, u32 channels, u32 area) {
    const u32 channel = blockIdx.x;
    const float shift = mean[channel], scale = rstd[channel];
    double bias_sum = 0.0, weight_sum = 0.0;
    for_each_of_channel(channel, n, channels, area, [&](u32 i) {
        bias_sum += double(dy[i]);
        weight_sum += double(dy[i] * ((x[i] - shift) * scale));
    });
    bias_sum = block_reduce(bias_sum, Add());
    weight_sum = block_reduce(weight_sum, Add());
    const double count = double(n) * double(area);
    const float bias_mean = float(bias_sum / count), weight_mean = float(weight_sum / count), factor = weight[channel] * scale;
    for_each_of_channel(channel, n, channels, area,
                        [&](u32 i) { dx[i] = factor * (dy[i] - bias_mean - (x[i] - shift) * scale * weight_mean); });
    if (threadIdx.x == 0) {
        dw[channel] = float(weight_sum);
        db[channel] = float(bias_sum);
    }
}

// Layer norm: a warp owns a row.
extern "C" __global__ void __launch_bounds__(256) layer_norm(const float* x, const float* weight, const float* bias, float eps, float* y,
                                                             float* mean, float* rstd, u32 rows, u32 columns) {
    for (u32 row = WarpTeam::row(); row < rows; row += WarpTeam::rows()) {
        const float* from = x + row * columns;
        double sum = 0.0;
        for (u32 i = lane(); i < columns; i += WARP) sum += double(from[i]);
        const double centre = warp_reduce(sum, Add()) / double(columns);
        double squares = 0.0;
        for (u32 i = lane(); i < columns; i += WARP) squares += (double(from[i]) - centre) * (double(from[i]) - centre);
        const float scale = float(1.0 / sqrt(warp_reduce(squares, Add()) / double(columns) + double(eps))), shift = float(centre);
        for (u32 i = lane(); i < columns; i += WARP) y[row * columns + i] = (from[i] - shift) * scale * weight[i] + bias[i];
        if (lane() == 0) {
            mean[row] = shift;
            rstd[row] = scale;
        }
    }
}

// With x̂ = (x − mean) · rstd and g = dy · w:  dx = rstd · (g − mean(g) − x̂ · mean(g · x̂)).
extern "C" __global__ void __launch_bounds__(256)
    layer_norm_grad(const float* x, const float* weight, const float* dy, const float* mean, const float* rstd, float* dx, u32 rows,
                    u32 columns) {
    for (u32 row = WarpTeam::row(); row < rows; row += WarpTeam::rows()) {
        const u32 first = row * columns;
        const float shift = mean[row], scale = rstd[row];
        float sum = 0.0f, weighted = 0.0f;
        for (u32 i = lane(); i < columns; i += WARP) {
            const float g = dy[first + i] * weight[i];
            sum += g;
            weighted += g * ((x[first + i] - shift) * scale);
        }
        sum = warp_reduce(sum, Add()) / float(columns);
        weighted = warp_reduce(weighted, Add()) / float(columns);
        for (u32 i = lane(); i < columns; i += WARP) {
            const float normalised = (x[first + i] - shift) * scale;
            dx[first + i] = scale * (dy[first + i] * weight[i] - sum - normalised * weighted);
        }
    }
}

// dw = Σ over rows of dy · x̂, db = Σ dy: a thread owns a column, so that a warp reads neighbours.
extern "C" __global__ void __launch_bounds__(256)
    layer_norm_grad_parameters(const float* x, const float* dy, const float* mean, const float* rstd, float* dw, float* db, u32 rows,
                               u32 columns) {
    for (u32 i = grid_thread(); i < columns; i += grid_threads()) {
        double weight_sum = 0.0, bias_sum = 0.0;
        for (u32 row = 0; row < rows; ++row) {
            const float d = dy[row * columns + i];
            weight_sum += double(d * ((x[row * columns + i] - mean[row]) * rstd[row]));
            bias_sum += double(d);
        }
        dw[i] = float(weight_sum);
        db[i] = float(bias_sum);
    }
}
