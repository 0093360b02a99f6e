// The distillation loss (distillation.cuh) of very long rows, on GPUs that have clusters (cluster.cuh). A block for each row would have more
// rows at work than the second-level cache holds, so that later passes would read them from memory again, and few rows would leave most
// multiprocessors idle. Here the eight blocks of a cluster share a row. Each takes a stretch of it and keeps both models' logits in registers: eight
// fours a thread and model, 16,384 classes a block, 131,072 a cluster; what is longer it reads again, from the cache as long as that holds all
// rows at work and the next ones. Blocks put their statistics into one another's shared memory, in turns into two halves of it, so that one barrier of the cluster is
// enough for each exchange: who writes a half again has passed the barrier behind which all have read it. While a row is at work the next one
// is on its way to the cache. Limited by memory, 12 bytes a class; in bf16, 6 bytes a class, as much by the issue of instructions.
#include "cluster.cuh"
#include "distillation.cuh"

#ifdef HAS_CLUSTERS

struct ClusterTeam : BlockTeam {
    static constexpr u32 PARTS = CLUSTER;
    static constexpr int MOST = 6;
    struct Exchange {
        float of_block[2][CLUSTER][MOST];
    };

    u32 half = 0;

    __device__ __forceinline__ ClusterTeam() {
        shared_memory<Exchange>();
        cluster_barrier();  // All blocks are there.
    }

    __device__ __forceinline__ static u32 row() { return blockIdx.x / CLUSTER; }
    __device__ __forceinline__ static u32 rows() { return gridDim.x / CLUSTER; }
    __device__ __forceinline__ static u32 part() { return cluster_rank(); }
    __device__ __forceinline__ static float sum_of_part(float value) { return BlockTeam::sum(value); }

    __device__ __forceinline__ static Stretch stretch(u32 classes) {
        const u32 each = ((classes + CLUSTER - 1) / CLUSTER + 3) / 4 * 4, from = min(part() * each, classes);
        return {from, min(from + each, classes)};
    }

    // As far as whole 16 bytes go.
    __device__ __forceinline__ static void fetch_ahead(const void* from, const void* to) {
        const u64 first = (reinterpret_cast<u64>(from) + 15) / 16 * 16, last = reinterpret_cast<u64>(to) / 16 * 16;
        if (rank() == 0 && first < last) fetch_to_cache(reinterpret_cast<const void*>(first), u32(last - first));
    }

    // What all threads of a block have, from each block: lane i gets block i % 8's.
    template <int N>
    __device__ __forceinline__ void exchange(float (&values)[N]) {
        static_assert(N <= MOST, "there is room for so many");
        auto& slots = shared_memory<Exchange>().of_block[half];
        if (threadIdx.x < CLUSTER) {
#pragma unroll
            for (int i = 0; i < N; ++i) put_in_block(slots[part()][i], threadIdx.x, values[i]);
        }
        cluster_barrier();
#pragma unroll
        for (int i = 0; i < N; ++i) values[i] = slots[lane() % CLUSTER][i];
        half ^= 1;
    }

    __device__ __forceinline__ void merge(SoftmaxState& hard, SoftmaxState& soft, SoftmaxState& guide, float inverse) {
        hard = BlockTeam::merge(hard, 1.0f);
        soft = BlockTeam::merge(soft, inverse);
        guide = BlockTeam::merge(guide, inverse);
        float values[6] = {hard.max, hard.sum, soft.max, soft.sum, guide.max, guide.sum};
        exchange(values);
        hard = PartTeam::merge({values[0], values[1]}, 1.0f);
        soft = PartTeam::merge({values[2], values[3]}, inverse);
        guide = PartTeam::merge({values[4], values[5]}, inverse);
    }

    __device__ __forceinline__ float sum(float value) {
        float values[1] = {BlockTeam::sum(value)};
        exchange(values);
        return PartTeam::sum(values[0]);
    }
};

#define DISTILLATION(NAME, DIVERGENCE, LOGIT)                                                                                     \
    extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(512, 1) NAME(DISTILLATION_PARAMETERS(LOGIT)) { \
        if (classes % 4 == 0)                                                                                                    \
            distillation<DIVERGENCE, 8>(ClusterTeam(), DISTILLATION_ARGUMENTS);                                                  \
        else                                                                                                                     \
            distillation<DIVERGENCE, 0>(ClusterTeam(), DISTILLATION_ARGUMENTS);                                                  \
    }

DISTILLATION(forward_kl_f32_cluster, ForwardKl, float)
DISTILLATION(forward_kl_bf16_cluster, ForwardKl, u16)
DISTILLATION(reverse_kl_f32_cluster, ReverseKl, float)
DISTILLATION(reverse_kl_bf16_cluster, ReverseKl, u16)
DISTILLATION(jensen_shannon_f32_cluster, JensenShannon, float)
DISTILLATION(jensen_shannon_bf16_cluster, JensenShannon, u16)
#endif
