// Kernels with a bug each, which the emulator must find (tests/emulator.rs). Nothing else uses them.
#include "common.cuh"

struct Row {
    float of[64];
};

// The neighbour's element may not be there yet.
extern "C" __global__ void __launch_bounds__(64) missing_barrier(float* x) {
    auto& row = shared_memory<Row>();
    row.of[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = row.of[(threadIdx.x + 1) % 64];
}

// Only half of the lanes come to the shuffle that names all of them.
extern "C" __global__ void __launch_bounds__(64) divergent_shuffle(float* x) {
    float value = x[threadIdx.x];
    if (threadIdx.x % 32 < 16) value += __shfl_xor_sync(FULL_WARP, value, 1);
    x[threadIdx.x] = value;
}

extern "C" __global__ void __launch_bounds__(64) store_past_the_end(float* x) { x[threadIdx.x + 1] = 1.0f; }

extern "C" __global__ void __launch_bounds__(64) load_before_the_start(const float* x, float* y) {
    y[threadIdx.x] = x[int(threadIdx.x) - 1];
}

extern "C" __global__ void __launch_bounds__(64) null_pointer(float* x) { x[threadIdx.x] = 1.0f; }

extern "C" __global__ void __launch_bounds__(64) misaligned_vector(float* x) {
    if (threadIdx.x < 8) store4(x + 4 * threadIdx.x + 1, {0.0f, 0.0f, 0.0f, 0.0f});
}

extern "C" __global__ void __launch_bounds__(64) uninitialised_shared_memory(float* x) {
    auto& row = shared_memory<Row>();
    if (threadIdx.x < 63) row.of[threadIdx.x] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = row.of[threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(64) past_shared_memory(float* x) {
    auto& row = shared_memory<Row>();
    row.of[threadIdx.x + u32(x[0])] = 1.0f;
}

struct TooMuch {
    float of[12289];
};

extern "C" __global__ void __launch_bounds__(64) too_much_shared_memory(float* x) {
    x[threadIdx.x] = shared_memory<TooMuch>().of[0];
}

// Each block adds to what the block before it left.
extern "C" __global__ void __launch_bounds__(64) depends_on_block_order(float* x) {
    if (threadIdx.x == 0) x[blockIdx.x + 1] = x[blockIdx.x] + 1.0f;
}

extern "C" __global__ void __launch_bounds__(64) two_blocks_write_one_place(float* x) {
    if (threadIdx.x == 0) x[0] = float(blockIdx.x);
}

extern "C" __global__ void __launch_bounds__(64) barrier_in_a_branch(float* x) {
    if (threadIdx.x < 32) __syncthreads();
    x[threadIdx.x] = 1.0f;
}

// Some wait at the barrier for others that wait at a shuffle for them.
extern "C" __global__ void __launch_bounds__(64) barrier_against_shuffle(float* x) {
    float value = x[threadIdx.x];
    if (threadIdx.x % 2 == 0) {
        __syncthreads();
    } else {
        value = __shfl_xor_sync(FULL_WARP, value, 1);
    }
    x[threadIdx.x] = value;
}
