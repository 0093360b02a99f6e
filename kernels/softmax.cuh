// Online softmax statistics: the maximum of the logits seen so far and the sum of exp((z − max) / T), in one pass (Milakov & Gimelshein
// 2018). Two such states merge into that of both sets. The difference is taken before the division, since large logits divided by a
// small T would cancel to noise. Threads take four logits at a time: one access where rows are aligned, four loads under way elsewhere, and
// one rescaling for all four.
#pragma once
#include "common.cuh"

constexpr float LOG2_E = 1.44269504f;

// Which of a thread's four elements exist.
struct There {
    bool of[4];
};

struct SoftmaxState {
    float max;
    float sum;

    __device__ __forceinline__ static SoftmaxState empty() { return {-infinity(), 0.0f}; }

    // `inverse` is 1 / T, here and below the same for all calls. Elements that are not there do not count; neither does −∞. +∞ and NaN make
    // the sum NaN.
    __device__ __forceinline__ void add(const float (&z)[4], const There& there, float inverse) {
        float larger = max;
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (there.of[j]) larger = fmaxf(larger, z[j]);
        if (larger != max) rescale(larger, inverse);
        const float base = max == -infinity() ? 0.0f : max;
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (there.of[j]) sum += exp2_approx((z[j] - base) * (inverse * LOG2_E));
    }

    // To a maximum that is no less. An empty state has nothing to rescale, and ∞ − ∞ is not 0.
    __device__ __forceinline__ void rescale(float larger, float inverse) {
        if (sum != 0.0f && max != larger) sum *= exp2_approx((max - larger) * (inverse * LOG2_E));
        max = larger;
    }

    __device__ __forceinline__ void merge(SoftmaxState other, float inverse) {
        const float larger = fmaxf(max, other.max);
        rescale(larger, inverse);
        other.rescale(larger, inverse);
        sum += other.sum;
    }

    // log softmax(z / T) = (z − max) / T − log_sum().
    __device__ __forceinline__ float log_sum() const { return logf(sum); }
    __device__ __forceinline__ float log_softmax(float z, float inverse, float log_sum) const { return (z - max) * inverse - log_sum; }
};

// softmax(z / T) of one element after another, once its statistics are known: 2^((z − max) · rate − offset).
struct Softmax {
    float max, rate, offset;

    __device__ __forceinline__ Softmax(SoftmaxState state, float inverse)
        : max(state.max), rate(inverse * LOG2_E), offset(log2f(state.sum)) {}
    __device__ __forceinline__ float operator()(float z) const { return exp2_approx((z - max) * rate - offset); }
};

// The threads that share a row: LANES neighbours in a warp, or the whole block. They reduce sums and softmax states among themselves.
template <int LANES>
struct LaneTeam {
    __device__ __forceinline__ static int rank() { return threadIdx.x % LANES; }
    __device__ __forceinline__ static int size() { return LANES; }
    __device__ __forceinline__ static u32 row() { return grid_thread() / LANES; }
    __device__ __forceinline__ static u32 rows() { return grid_threads() / LANES; }

    template <class F>
    __device__ __forceinline__ static float reduce(float value, F f) {
        // Teams of one warp may have different numbers of rows, so each names its own lanes.
        const u32 own = LANES == WARP ? FULL_WARP : ((1u << LANES % WARP) - 1) << (lane() / LANES * LANES);
        for (int distance = LANES / 2; distance > 0; distance /= 2) value = f(value, __shfl_xor_sync(own, value, distance));
        return value;
    }
    __device__ __forceinline__ static float sum(float value) { return reduce(value, Add()); }
    __device__ __forceinline__ static SoftmaxState merge(SoftmaxState state, float inverse) {
        state.rescale(reduce(state.max, Max()), inverse);
        state.sum = sum(state.sum);
        return state;
    }
};
using PartTeam = LaneTeam<8>;
using WarpTeam = LaneTeam<WARP>;

struct BlockTeam {
    __device__ __forceinline__ static int rank() { return threadIdx.x; }
    __device__ __forceinline__ static int size() { return blockDim.x; }
    __device__ __forceinline__ static u32 row() { return blockIdx.x; }
    __device__ __forceinline__ static u32 rows() { return gridDim.x; }
    __device__ __forceinline__ static float sum(float value) { return block_reduce(value, Add()); }

    __device__ __forceinline__ static SoftmaxState merge(SoftmaxState state, float inverse) {
        auto& results = shared_memory<WarpResults<SoftmaxState>>();
        state = WarpTeam::merge(state, inverse);
        __syncthreads();  // An earlier call's results may still be read.
        if (lane() == 0) results.of_warp[warp()] = state;
        __syncthreads();
        // Every warp merges them anew: fewer steps than one after another.
        state = lane() < int(blockDim.x) / WARP ? results.of_warp[lane()] : SoftmaxState::empty();
        return WarpTeam::merge(state, inverse);
    }
};

// What rows' losses are divided by: the summed weights of the samples that have a label, and those of all samples, as sum_weights left them.
// Without them every row has a label and counts 1.
__device__ __forceinline__ float labelled_weight(const float* totals, u32 rows) { return totals ? totals[0] : float(max(rows, 1u)); }
__device__ __forceinline__ float whole_weight(const float* totals, u32 rows) { return totals ? totals[1] : float(max(rows, 1u)); }

__device__ __forceinline__ float logit(float value) { return value; }
__device__ __forceinline__ float logit(u16 value) { return bf16_to_float(value); }

// Four logits as they lie in memory.
template <class Logit>
struct Four {
    Logit of[4];
};
template <>
struct Four<u16> {
    u32 pairs[2];
};
__device__ __forceinline__ void unpack(const Four<float>& four, float (&to)[4]) {
#pragma unroll
    for (int j = 0; j < 4; ++j) to[j] = four.of[j];
}
// A bfloat16 is the upper half of a float.
__device__ __forceinline__ void unpack(const Four<u16>& four, float (&to)[4]) {
#pragma unroll
    for (int j = 0; j < 4; ++j) to[j] = float_of_bits(j % 2 == 0 ? four.pairs[j / 2] << 16 : four.pairs[j / 2] & 0xffff0000u);
}
__device__ __forceinline__ void store_logit(float* to, float value) { *to = value; }
__device__ __forceinline__ void store_logit(u16* to, float value) { *to = float_to_bf16(value); }

// A team's way over elements `from` to `to` of a row, four of a thread at a time: neighbours in one access if all rows are aligned to that,
// else as far apart as the team is large, so that neighbouring threads touch neighbours. ALIGNED: they are known to be.
template <class Team, bool ALIGNED = false>
struct Walk {
    u32 end, stride, first;

    __device__ __forceinline__ Walk(u32 columns, u32 from, u32 to) : end(to) {
        const bool aligned = ALIGNED || (columns % 4 == 0 && from % 4 == 0 && to % 4 == 0);
        stride = aligned ? 1 : Team::size();
        first = from + (aligned ? 4 : 1) * Team::rank();
    }
    __device__ __forceinline__ explicit Walk(u32 columns) : Walk(columns, 0, columns) {}

    // From a thread's four elements at i, i + stride, … to its next ones; it begins at `first` and goes on while i < end.
    __device__ __forceinline__ u32 step() const { return 4 * Team::size(); }
    __device__ __forceinline__ There there(u32 i) const {
        return {{true, ALIGNED || i + stride < end, ALIGNED || i + 2 * stride < end, ALIGNED || i + 3 * stride < end}};
    }

    template <class Logit>
    __device__ __forceinline__ void load(const Logit* row, u32 i, const There& there, float (&to)[4]) const {
        unpack(fetch(row, i, there), to);
    }

    __device__ __forceinline__ Four<float> fetch(const float* row, u32 i, const There& there) const {
        if (stride == 1) {
            const float4 v = load4(row + i);
            return {{v.x, v.y, v.z, v.w}};
        }
        const auto at = [&](int j) { return there.of[j] ? row[i + j * stride] : 0.0f; };
        return {{at(0), at(1), at(2), at(3)}};
    }
    __device__ __forceinline__ Four<u16> fetch(const u16* row, u32 i, const There& there) const {
        Four<u16> four;
        if (stride == 1) {
            load_words(reinterpret_cast<const u32*>(row + i), four.pairs);
        } else {
            const auto at = [&](int j) { return there.of[j] ? u32(row[i + j * stride]) : 0u; };
            four.pairs[0] = at(1) << 16 | at(0), four.pairs[1] = at(3) << 16 | at(2);
        }
        return four;
    }

    __device__ __forceinline__ void store(float* row, u32 i, const There& there, const float (&from)[4]) const {
        if (stride == 1)
            store4(row + i, float4{from[0], from[1], from[2], from[3]});
        else
            store_apart(row, i, there, from);
    }
    __device__ __forceinline__ void store(u16* row, u32 i, const There& there, const float (&from)[4]) const {
        if (stride == 1)
            store_words(reinterpret_cast<u32*>(row + i), floats_to_bf16(from[0], from[1]), floats_to_bf16(from[2], from[3]));
        else
            store_apart(row, i, there, from);
    }

private:
    template <class Logit>
    __device__ __forceinline__ void store_apart(Logit* row, u32 i, const There& there, const float (&from)[4]) const {
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (there.of[j]) store_logit(row + i + j * stride, from[j]);
    }
};
