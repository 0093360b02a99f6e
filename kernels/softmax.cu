// Softmax and log-softmax of rows, with temperature: y = softmax(x / T). Eight lanes take a row of up to 32 elements, a warp one of up to
// 1,024, a block a longer one, and several blocks a very long one when there are few rows. Each row is read once for its statistics (softmax.cuh) and again, from
// cache, for the result: 8 bytes of traffic an element, limited by memory.
#include "softmax.cuh"

__device__ __forceinline__ float softmax_of(SoftmaxState state, float log_sum, float z, float inverse, int log) {
    const float log_p = state.log_softmax(z, inverse, log_sum);
    return log ? log_p : expf(log_p);
}

template <class Team>
__device__ __forceinline__ SoftmaxState statistics(const float* row, const Walk<Team>& walk, float inverse) {
    SoftmaxState state = SoftmaxState::empty();
    for (u32 i = walk.first; i < walk.end; i += walk.step()) {
        const There there = walk.there(i);
        float z[4];
        walk.load(row, i, there, z);
        state.add(z, there, inverse);
    }
    return state;
}

template <class Team>
__device__ __forceinline__ void write_softmax(SoftmaxState state, const float* row, float* to, const Walk<Team>& walk, float inverse,
                                              int log) {
    const float log_sum = state.log_sum();
    for (u32 i = walk.first; i < walk.end; i += walk.step()) {
        const There there = walk.there(i);
        float z[4];
        walk.load(row, i, there, z);
#pragma unroll
        for (int j = 0; j < 4; ++j) z[j] = softmax_of(state, log_sum, z[j], inverse, log);
        walk.store(to, i, there, z);
    }
}

template <class Team>
__device__ __forceinline__ void softmax(const float* x, float* y, u32 rows, u32 columns, float temperature, int log) {
    const float inverse = 1.0f / temperature;
    for (u32 row = Team::row(); row < rows; row += Team::rows()) {
        const float* from = x + row * columns;
        const SoftmaxState state = Team::merge(statistics<Team>(from, Walk<Team>(columns), inverse), inverse);
        write_softmax<Team>(state, from, y + row * columns, Walk<Team>(columns), inverse, log);
    }
}

extern "C" __global__ void __launch_bounds__(256)
    softmax_part(const float* x, float* y, u32 rows, u32 columns, float temperature, int log) {
    softmax<PartTeam>(x, y, rows, columns, temperature, log);
}

extern "C" __global__ void __launch_bounds__(256)
    softmax_warp(const float* x, float* y, u32 rows, u32 columns, float temperature, int log) {
    softmax<WarpTeam>(x, y, rows, columns, temperature, log);
}

extern "C" __global__ void __launch_bounds__(512)
    softmax_block(const float* x, float* y, u32 rows, u32 columns, float temperature, int log) {
    softmax<BlockTeam>(x, y, rows, columns, temperature, log);
}

// Several blocks a row, first pass: the block at (part, row) leaves the statistics of its stretch in states[row][part].
extern "C" __global__ void __launch_bounds__(512)
    softmax_parts(const float* x, SoftmaxState* states, u32 columns, u32 stretch, float temperature) {
    const u32 part = blockIdx.x, row = blockIdx.y, last = min((part + 1) * stretch, columns);
    const float inverse = 1.0f / temperature;
    const Walk<BlockTeam> walk(columns, part * stretch, last);
    const SoftmaxState state = BlockTeam::merge(statistics<BlockTeam>(x + row * columns, walk, inverse), inverse);
    if (threadIdx.x == 0) states[row * gridDim.x + part] = state;
}

// Second pass: each block merges the row's statistics, always in the same order, and writes its stretch.
extern "C" __global__ void __launch_bounds__(512)
    softmax_finish(const float* x, const SoftmaxState* states, float* y, u32 columns, u32 stretch, float temperature, int log) {
    const u32 part = blockIdx.x, row = blockIdx.y, last = min((part + 1) * stretch, columns);
    const float inverse = 1.0f / temperature;
    SoftmaxState state = SoftmaxState::empty();
    for (u32 i = 0; i < gridDim.x; ++i) state.merge(states[row * gridDim.x + i], inverse);
    write_softmax<BlockTeam>(state, x + row * columns, y + row * columns, Walk<BlockTeam>(columns, part * stretch, last), inverse, log);
}

// From the output: dx = y · (dy − Σ y·dy) / T, or for the logarithm dx = (dy − softmax · Σ dy) / T.
template <class Team>
__device__ __forceinline__ void softmax_grad(const float* y, const float* dy, float* dx, u32 rows, u32 columns, float temperature,
                                             int log) {
    for (u32 row = Team::row(); row < rows; row += Team::rows()) {
        const u32 first = row * columns;
        float sum = 0.0f;
        for (u32 i = first + Team::rank(); i < first + columns; i += Team::size()) sum += log ? dy[i] : y[i] * dy[i];
        sum = Team::sum(sum);
        for (u32 i = first + Team::rank(); i < first + columns; i += Team::size())
            dx[i] = (log ? dy[i] - expf(y[i]) * sum : y[i] * (dy[i] - sum)) / temperature;
    }
}

extern "C" __global__ void __launch_bounds__(256)
    softmax_grad_warp(const float* y, const float* dy, float* dx, u32 rows, u32 columns, float temperature, int log) {
    softmax_grad<WarpTeam>(y, dy, dx, rows, columns, temperature, log);
}

extern "C" __global__ void __launch_bounds__(512)
    softmax_grad_block(const float* y, const float* dy, float* dx, u32 rows, u32 columns, float temperature, int log) {
    softmax_grad<BlockTeam>(y, dy, dx, rows, columns, temperature, log);
}

// The place of the largest element of each row (the first, if several).
extern "C" __global__ void __launch_bounds__(256) argmax(const float* x, int* index, u32 rows, u32 columns) {
    for (u32 row = WarpTeam::row(); row < rows; row += WarpTeam::rows()) {
        float best = -infinity();
        u32 place = 0xffffffffu;
        for (u32 i = lane(); i < columns; i += WARP) {
            const float value = x[row * columns + i];
            if (place == 0xffffffffu || value > best) best = value, place = i;
        }
        for (int distance = WARP / 2; distance > 0; distance /= 2) {
            const float other = __shfl_xor_sync(FULL_WARP, best, distance);
            const u32 other_place = __shfl_xor_sync(FULL_WARP, place, distance);
            if (other > best || (other == best && other_place < place)) best = other, place = other_place;
        }
        if (lane() == 0) index[row] = int(place == 0xffffffffu ? 0 : place);
    }
}
