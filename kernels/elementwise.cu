// Functions of each element. All are limited by memory: 8 to 16 bytes move for a handful of operations. A thread handles four
// neighbouring elements with 16-byte accesses (tensors start on 256-byte boundaries), the last thread what is left over, and the
// grid strides over the tensor.
#include "common.cuh"

// Calls f(i) for each element index of this thread, or f4(i) for four at once.
template <class F4, class F>
__device__ __forceinline__ void for_each_four(u32 n, F4 f4, F f) {
    for (u32 i = 4 * grid_thread(); i < n; i += 4 * grid_threads()) {
        if (i + 4 <= n) {
            f4(i);
        } else {
            for (u32 j = i; j < n; ++j) f(j);
        }
    }
}

// y[i] = f(x[i])
template <class F>
__device__ __forceinline__ void map(const float* x, float* y, u32 n, F f) {
    for_each_four(
        n,
        [&](u32 i) {
            const float4 v = load4(x + i);
            store4(y + i, {f(v.x), f(v.y), f(v.z), f(v.w)});
        },
        [&](u32 i) { y[i] = f(x[i]); });
}

// out[i] = f(a[i], b[i]); out may be a or b.
template <class F>
__device__ __forceinline__ void zip(const float* a, const float* b, float* out, u32 n, F f) {
    for_each_four(
        n,
        [&](u32 i) {
            const float4 u = load4(a + i), v = load4(b + i);
            store4(out + i, {f(u.x, v.x), f(u.y, v.y), f(u.z, v.z), f(u.w, v.w)});
        },
        [&](u32 i) { out[i] = f(a[i], b[i]); });
}

// The order of `Unary` in src/backend/params.rs.
enum Unary { RELU, SIGMOID, TANH, GELU, GELU_TANH, SILU, HARDSWISH, EXP, LOG, SQRT, SQUARE, ABS };

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
// The standard normal's distribution function.
__device__ __forceinline__ float phi(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
__device__ __forceinline__ float gelu_inner(float x) { return 0.79788456f * (x + 0.044715f * x * x * x); }
// 1 above 0, else 0. A NaN stays a NaN.
__device__ __forceinline__ float step(float x) { return x != x ? x : (x > 0.0f ? 1.0f : 0.0f); }

__device__ float apply(int f, float x) {
    switch (f) {
        case RELU: return relu(x);
        case SIGMOID: return sigmoid(x);
        case TANH: return tanhf(x);
        case GELU: return x * phi(x);
        case GELU_TANH: return 0.5f * x * (1.0f + tanhf(gelu_inner(x)));
        case SILU: return x * sigmoid(x);
        case HARDSWISH: return x * fminf(fmaxf(x + 3.0f, 0.0f), 6.0f) / 6.0f;
        case EXP: return expf(x);
        case LOG: return logf(x);
        case SQRT: return sqrtf(x);
        case SQUARE: return x * x;
        default: return fabsf(x);
    }
}

// f'(x), given x and y = f(x).
__device__ float derivative(int f, float x, float y) {
    switch (f) {
        case RELU: return step(x);
        case SIGMOID: return y * (1.0f - y);
        case TANH: return 1.0f - y * y;
        case GELU: return phi(x) + x * 0.39894228f * expf(-0.5f * x * x);
        case GELU_TANH: {
            const float t = tanhf(gelu_inner(x));
            return 0.5f * (1.0f + t + x * (1.0f - t * t) * 0.79788456f * (1.0f + 3.0f * 0.044715f * x * x));
        }
        case SILU: return sigmoid(x) * (1.0f + x * (1.0f - sigmoid(x)));
        case HARDSWISH: return x <= -3.0f ? 0.0f : (x >= 3.0f ? 1.0f : (2.0f * x + 3.0f) / 6.0f);
        case EXP: return y;
        case LOG: return 1.0f / x;
        case SQRT: return 0.5f / y;
        case SQUARE: return 2.0f * x;
        default: return step(x) - step(-x);
    }
}

extern "C" __global__ void __launch_bounds__(256) unary(int f, const float* x, float* y, u32 n) {
    map(x, y, n, [&](float v) { return apply(f, v); });
}

extern "C" __global__ void __launch_bounds__(256)
    unary_grad(int f, const float* x, const float* y, const float* dy, float* dx, u32 n) {
    for (u32 i = grid_thread(); i < n; i += grid_threads()) dx[i] = derivative(f, x[i], y[i]) * dy[i];
}

// The order of `Binary` in src/backend/params.rs.
enum Binary { ADD, SUB, MUL, DIV };

__device__ __forceinline__ float apply(int f, float a, float b) {
    switch (f) {
        case ADD: return a + b;
        case SUB: return a - b;
        case MUL: return a * b;
        default: return a / b;
    }
}

extern "C" __global__ void __launch_bounds__(256) binary(int f, const float* a, const float* b, float* out, u32 n) {
    zip(a, b, out, n, [&](float x, float y) { return apply(f, x, y); });
}

// Row-major extents of the result, and for each operand the distance between neighbours (0 where it is repeated).
struct Broadcast {
    int rank;
    u32 extent[MAX_RANK];
    u32 stride_a[MAX_RANK];
    u32 stride_b[MAX_RANK];
};

extern "C" __global__ void __launch_bounds__(256)
    binary_broadcast(int f, Broadcast shape, const float* a, const float* b, float* out, u32 n) {
    for (u32 i = grid_thread(); i < n; i += grid_threads()) {
        u32 rest = i, at_a = 0, at_b = 0;
#pragma unroll  // Arguments have no addresses: an index that is not known would copy them to memory.
        for (int d = MAX_RANK - 1; d >= 0; --d) {
            if (d >= shape.rank) continue;
            const u32 position = rest % shape.extent[d];
            rest /= shape.extent[d];
            at_a += position * shape.stride_a[d];
            at_b += position * shape.stride_b[d];
        }
        out[i] = apply(f, a[at_a], b[at_b]);
    }
}

extern "C" __global__ void __launch_bounds__(256) affine(const float* x, float* y, float scale, float shift, u32 n) {
    map(x, y, n, [&](float v) { return scale * v + shift; });
}

extern "C" __global__ void __launch_bounds__(256) add_assign(float* sum, const float* x, u32 n) {
    zip(sum, x, sum, n, Add());
}

// sum = keep · sum + rest · x
extern "C" __global__ void __launch_bounds__(256) lerp(float* sum, const float* x, float keep, float rest, u32 n) {
    zip(sum, x, sum, n, [&](float a, float b) { return keep * a + rest * b; });
}

extern "C" __global__ void __launch_bounds__(256) fill(float* y, float value, u32 n) {
    for_each_four(
        n, [&](u32 i) { store4(y + i, {value, value, value, value}); }, [&](u32 i) { y[i] = value; });
}

// Zero with probability p, else divided by 1 − p. Element i draws word i % 4 of block i / 4, as on every backend.
extern "C" __global__ void __launch_bounds__(256)
    dropout(const float* x, float* y, double p, float scale, Rng rng, u32 n) {
    for (u32 block = grid_thread(); 4 * block < n; block += grid_threads()) {
        const Words words = philox(rng, block);
        for (u32 j = 0; j < 4 && 4 * block + j < n; ++j) {
            const u32 i = 4 * block + j;
            y[i] = double(unit_float(words.of[j])) < p ? 0.0f : x[i] * scale;
        }
    }
}

// Not contracted to fused multiply-adds: every backend draws the same bits.
extern "C" __global__ void __launch_bounds__(256) uniform(float* y, double low, double high, Rng rng, u32 n) {
    for (u32 block = grid_thread(); 4 * block < n; block += grid_threads()) {
        const Words words = philox(rng, block);
        for (u32 j = 0; j < 4 && 4 * block + j < n; ++j)
            y[4 * block + j] = float(__dadd_rn(low, __dmul_rn(high - low, double(unit_float(words.of[j])))));
    }
}

// Box–Muller in double, as on every backend: each pair of words makes a pair of normal numbers.
extern "C" __global__ void __launch_bounds__(256) normal(float* y, double mean, double sd, Rng rng, u32 n) {
    for (u32 block = grid_thread(); 4 * block < n; block += grid_threads()) {
        const Words words = philox(rng, block);
        for (u32 j = 0; j < 4 && 4 * block + j < n; ++j) {
            const double radius = sqrt(-2.0 * log((double(words.of[j & 2]) + 0.5) / 4294967296.0));
            const double angle = 6.283185307179586 * (double(words.of[(j & 2) + 1]) / 4294967296.0);
            y[4 * block + j] = float(__dadd_rn(mean, __dmul_rn(sd, __dmul_rn(radius, j % 2 == 0 ? cos(angle) : sin(angle)))));
        }
    }
}
