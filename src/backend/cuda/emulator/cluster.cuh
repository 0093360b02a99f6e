// What kernels/cluster.cuh offers, on the emulator.
#pragma once
#include "device.cuh"

#define HAS_CLUSTERS

constexpr u32 CLUSTER = 8;

extern "C" {
// Waits until all threads of all blocks of the cluster are here.
void emulated_cluster_barrier();
// Writes to the same place in another block's shared memory; it is there behind the cluster's next barrier.
void emulated_put_in_block(float* place, u32 rank, float value);
// Checks that all of this memory may be read.
void emulated_fetch_to_cache(const void* from, u32 bytes);
}

inline u32 cluster_rank() { return blockIdx.x % CLUSTER; }
inline void cluster_barrier() { emulated_cluster_barrier(); }
inline void put_in_block(float& place, u32 rank, float value) { emulated_put_in_block(&place, rank, value); }
inline void fetch_to_cache(const void* from, u32 bytes) { emulated_fetch_to_cache(from, bytes); }
