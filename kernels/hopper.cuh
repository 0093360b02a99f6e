// What only compute capability 9.0 has: barriers in shared memory that wait for bytes, bulk copies that arrive at them, and products of
// matrices in shared memory by four warps together (mbarrier, cp.async.bulk, wgmma). HAS_HOPPER says whether this is its machine code.
// The emulator puts a file of the same name in its place.
#pragma once
#include "device.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define HAS_HOPPER

// A barrier in shared memory. A phase ends when as many threads as it was made for have arrived and all bytes that they announced are
// there; then the next phase begins. Phases are told apart by their parity; the first has 0.
struct PhaseBarrier {
    u64 state;
};

// One thread makes barriers, and says so when all are made; others use them after __syncthreads.
__device__ __forceinline__ void make_barrier(PhaseBarrier& barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void barriers_are_made() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void arrive(PhaseBarrier& barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
}

// Arrives at the barrier and starts a copy from global to shared memory for which it will wait, too. Addresses and bytes are multiples of 16.
__device__ __forceinline__ void arrive_with_copy(PhaseBarrier& barrier, void* to, const void* from, u32 bytes) {
    const u32 at = shared_address(&barrier);
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes), "r"(at)
                 : "memory");
}

// Waits for the end of the phase with this parity: the current one, or the one before, which has ended.
__device__ __forceinline__ void wait_for_phase(PhaseBarrier& barrier, u32 parity) {
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n"
        "@!ended bra again;\n"
        "}\n" ::"r"(shared_address(&barrier)),
        "r"(parity)
        : "memory");
}

// Operands of a product in shared memory: rows of 32 bytes (8 TF32 or 16 shorter numbers) in two halves. The first halves of 8 rows lie
// one after another, 16 bytes each, the second halves `halves` bytes behind them, and the next 8 rows `eights` bytes behind them.
struct SharedRows {
    u64 descriptor;

    __device__ __forceinline__ SharedRows(const void* first, u32 halves, u32 eights)
        : descriptor(u64((shared_address(first) & 0x3ffff) >> 4) | u64(halves >> 4) << 16 | u64(eights >> 4) << 32) {}
    // Rows that begin so many bytes later.
    __device__ __forceinline__ SharedRows(const SharedRows& from, u32 bytes) : descriptor(from.descriptor + (bytes >> 4)) {}
};

// What threads wrote to shared memory before is there for products after the next barrier.
__device__ __forceinline__ void show_to_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Lanes of a warp that went different ways are together again, as all that follows wants them.
__device__ __forceinline__ void rejoin() { __syncwarp(); }

// The registers of sums are ready for products: before the first product of a group.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Ends a group of products.
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until all groups but the last PENDING are done. Only then may their sums be read, and their operands be written.
template <int PENDING>
__device__ __forceinline__ void wait_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// sum += a · bᵀ, some time later, by four warps together: 64 rows of a, 128 of b. Of sum a lane holds for rows r and r + 8, where r = 16 · warp +
// lane / 4, the columns 8i + 2 · (lane % 4) and one more: sum[4i], sum[4i + 1], and for row r + 8 sum[4i + 2], sum[4i + 3].
#define FOUR(i) "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3])
#define SIXTEEN(i) FOUR(i), FOUR(i + 4), FOUR(i + 8), FOUR(i + 12)
#define SUMS                                                                                                          \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, "  \
    "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
__device__ __forceinline__ void multiply_shared_tf32(float (&sum)[64], SharedRows a, SharedRows b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32 " SUMS ", %64, %65, 1, 1, 1;"
                 : SIXTEEN(0), SIXTEEN(16), SIXTEEN(32), SIXTEEN(48)
                 : "l"(a.descriptor), "l"(b.descriptor));
}
__device__ __forceinline__ void multiply_shared_bf16(float (&sum)[64], SharedRows a, SharedRows b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " SUMS ", %64, %65, 1, 1, 1, 0, 0;"
                 : SIXTEEN(0), SIXTEEN(16), SIXTEEN(32), SIXTEEN(48)
                 : "l"(a.descriptor), "l"(b.descriptor));
}
__device__ __forceinline__ void multiply_shared_f16(float (&sum)[64], SharedRows a, SharedRows b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " SUMS ", %64, %65, 1, 1, 1, 0, 0;"
                 : SIXTEEN(0), SIXTEEN(16), SIXTEEN(32), SIXTEEN(48)
                 : "l"(a.descriptor), "l"(b.descriptor));
}
// For the compiler, which sees no connection between sums and the end of products: they are as they are here, not before and not behind.
__device__ __forceinline__ void pin_sums(float (&sum)[64]) {
    asm volatile("" : SIXTEEN(0), SIXTEEN(16), SIXTEEN(32), SIXTEEN(48)::"memory");
}
#undef SUMS
#undef SIXTEEN
#undef FOUR

#endif
