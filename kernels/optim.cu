// Optimisers over many parameters in one launch. The parameters of a small network are dozens of short arrays; one launch each would
// cost more than the work. A launch takes up to 24 of them by value in its arguments; blockIdx.y picks the array, and the grid strides
// over its elements. Gradients are scaled on the way in, so that clipping by norm costs no pass of its own. 16 to 28 bytes a
// parameter: limited by memory, or by the launch.
#include "common.cuh"

// A parameter, its gradient, and what the optimiser keeps for it (null where it keeps nothing).
struct Slot {
    float* value;
    const float* grad;
    float* first;
    float* second;
    u32 n;
    u32 unused;
};

constexpr int SLOTS = 24;

struct Slots {
    Slot of[SLOTS];
};

struct Sgd {
    float lr, momentum, weight_decay;
    int nesterov, first_step;
};

extern "C" __global__ void __launch_bounds__(256) sgd(Slots slots, Sgd p, float grad_scale) {
    const Slot slot = slots.of[blockIdx.y];
    for (u32 i = grid_thread(); i < slot.n; i += grid_threads()) {
        const float value = slot.value[i];
        float step = grad_scale * slot.grad[i] + p.weight_decay * value;
        if (slot.first) {
            const float momentum = p.first_step ? step : p.momentum * slot.first[i] + step;
            slot.first[i] = momentum;
            step = p.nesterov ? step + p.momentum * momentum : momentum;
        }
        slot.value[i] = value - p.lr * step;
    }
}

// Rates with the bias corrections of this step taken in: step_size = lr / (1 − β₁ᵗ), root_bias2 = √(1 − β₂ᵗ), rest = 1 − β.
struct Adam {
    float step_size, root_bias2, beta1, rest1, beta2, rest2, eps, weight_decay, shrink;
};

// Kingma & Ba 2015; with decoupled weight decay (Loshchilov & Hutter 2019) where shrink = 1 − lr · decay is not 1.
extern "C" __global__ void __launch_bounds__(256) adam(Slots slots, Adam p, float grad_scale) {
    const Slot slot = slots.of[blockIdx.y];
    for (u32 i = grid_thread(); i < slot.n; i += grid_threads()) {
        const float value = slot.value[i] * p.shrink;
        const float grad = grad_scale * slot.grad[i] + p.weight_decay * value;
        const float m = p.beta1 * slot.first[i] + p.rest1 * grad;
        const float v = p.beta2 * slot.second[i] + p.rest2 * grad * grad;
        slot.first[i] = m;
        slot.second[i] = v;
        slot.value[i] = value - p.step_size * m / (sqrtf(v) / p.root_bias2 + p.eps);
    }
}

struct RmsProp {
    float lr, alpha, rest, eps, weight_decay, momentum;
};

extern "C" __global__ void __launch_bounds__(256) rmsprop(Slots slots, RmsProp p, float grad_scale) {
    const Slot slot = slots.of[blockIdx.y];
    for (u32 i = grid_thread(); i < slot.n; i += grid_threads()) {
        const float value = slot.value[i];
        const float grad = grad_scale * slot.grad[i] + p.weight_decay * value;
        const float v = p.alpha * slot.second[i] + p.rest * grad * grad;
        slot.second[i] = v;
        float step = grad / (sqrtf(v) + p.eps);
        if (slot.first) {
            step = p.momentum * slot.first[i] + step;
            slot.first[i] = step;
        }
        slot.value[i] = value - p.lr * step;
    }
}

// Σ x², in double: each block leaves the sum of its grid-strided elements, a second launch of one block adds the blocks' sums up.
extern "C" __global__ void __launch_bounds__(256) sum_of_squares(const float* x, double* sums, u32 n) {
    double sum = 0.0;
    for (u32 i = grid_thread(); i < n; i += grid_threads()) sum += double(x[i]) * double(x[i]);
    sum = block_reduce(sum, Add());
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(256) sum_doubles(const double* sums, double* result, u32 n) {
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) sum += sums[i];
    sum = block_reduce(sum, Add());
    if (threadIdx.x == 0) *result = sum;
}
