// Blocks that run at the same time and reach one another's shared memory, which exist from compute capability 9.0 on. HAS_CLUSTERS says
// whether this is machine code for one of these. A kernel asks for clusters with __cluster_dims__(CLUSTER, 1, 1).
// The emulator puts a file of the same name in its place.
#pragma once
#include "device.cuh"

#if __CUDA_ARCH__ >= 900
#define HAS_CLUSTERS

// Blocks of a cluster: as many as every GPU that has clusters can run.
constexpr u32 CLUSTER = 8;

// Which of its cluster's blocks this is.
__device__ __forceinline__ u32 cluster_rank() {
    u32 rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// Waits until all threads of all blocks of the cluster are here; then what they put elsewhere before is there. A block must have come here
// before others put something into it.
__device__ __forceinline__ void cluster_barrier() {
    __syncwarp();  // Lanes that went different ways are together again, as `aligned` wants them.
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Puts a number where block `rank` of the cluster has what this block has at `place` in shared memory.
__device__ __forceinline__ void put_in_block(float& place, u32 rank, float value) {
    asm volatile(
        "{\n"
        ".reg .u32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "st.shared::cluster.f32 [there], %2;\n"
        "}\n" ::"r"(shared_address(&place)),
        "r"(rank), "f"(value)
        : "memory");
}

// Begins to bring memory into the second-level cache. Address and bytes are multiples of 16.
__device__ __forceinline__ void fetch_to_cache(const void* from, u32 bytes) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

#endif
