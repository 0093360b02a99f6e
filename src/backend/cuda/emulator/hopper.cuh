// What kernels/hopper.cuh offers, on the emulator.
#pragma once
#include "device.cuh"

#define HAS_HOPPER

struct PhaseBarrier {
    u64 state;
};

extern "C" {
void emulated_make_barrier(PhaseBarrier* barrier, u32 arrivals);
void emulated_barriers_are_made();
void emulated_arrive(PhaseBarrier* barrier);
void emulated_arrive_with_copy(PhaseBarrier* barrier, void* to, const void* from, u32 bytes);
void emulated_wait_for_phase(PhaseBarrier* barrier, u32 parity);
void emulated_show_to_products();
void emulated_begin_products();
// Waits until all threads of four warps are here; formats as for emulated_multiply_matrices.
void emulated_multiply_shared(u32 format, const void* const* first, const u32* strides, float* sum);
void emulated_commit_products();
void emulated_wait_products(u32 pending);
}

inline void make_barrier(PhaseBarrier& barrier, u32 arrivals) { emulated_make_barrier(&barrier, arrivals); }
inline void barriers_are_made() { emulated_barriers_are_made(); }
inline void arrive(PhaseBarrier& barrier) { emulated_arrive(&barrier); }
inline void arrive_with_copy(PhaseBarrier& barrier, void* to, const void* from, u32 bytes) {
    emulated_arrive_with_copy(&barrier, to, from, bytes);
}
inline void wait_for_phase(PhaseBarrier& barrier, u32 parity) { emulated_wait_for_phase(&barrier, parity); }

struct SharedRows {
    const char* first;
    u32 halves, eights;

    SharedRows(const void* first_, u32 halves_, u32 eights_)
        : first(static_cast<const char*>(first_)), halves(halves_), eights(eights_) {}
    SharedRows(const SharedRows& from, u32 bytes) : first(from.first + bytes), halves(from.halves), eights(from.eights) {}
};

inline void rejoin() {}
inline void pin_sums(float (&)[64]) {}
inline void show_to_products() { emulated_show_to_products(); }
inline void begin_products() { emulated_begin_products(); }
inline void commit_products() { emulated_commit_products(); }
template <int PENDING>
void wait_products() {
    emulated_wait_products(PENDING);
}

inline void emulated_multiply(u32 format, float (&sum)[64], SharedRows a, SharedRows b) {
    const void* const first[2] = {a.first, b.first};
    const u32 strides[4] = {a.halves, a.eights, b.halves, b.eights};
    emulated_multiply_shared(format, first, strides, sum);
}
inline void multiply_shared_tf32(float (&sum)[64], SharedRows a, SharedRows b) { emulated_multiply(0, sum, a, b); }
inline void multiply_shared_bf16(float (&sum)[64], SharedRows a, SharedRows b) { emulated_multiply(1, sum, a, b); }
inline void multiply_shared_f16(float (&sum)[64], SharedRows a, SharedRows b) { emulated_multiply(2, sum, a, b); }
