// The dialect of CUDA in which the kernels are written: fixed-size types, shared memory, 16-byte accesses, conversions, asynchronous
// copies, and what a warp does with matrices. Everything exists from sm_80 on.
// Inline PTX stands here, in cluster.cuh and in hopper.cuh alone. The emulator puts files of the same names in their place (src/backend/cuda/emulator)
// and compiles the very same kernels with a C++ compiler.
#pragma once

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

// Shared memory of the block, laid out as a T, aligned for every access. All calls with one T give the same memory; its contents are unspecified at first.
template <class T>
__device__ __forceinline__ T& shared_memory() {
    alignas(128) __shared__ T memory;
    return memory;
}

// Four floats in one 16-byte access; the address must be a multiple of 16.
__device__ __forceinline__ float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ __forceinline__ void store4(float* to, float4 value) { *reinterpret_cast<float4*>(to) = value; }

// Two or four words in one access; the address must be a multiple of 8 or 16.
__device__ __forceinline__ void store_words(u32* to, u32 a, u32 b) { *reinterpret_cast<uint2*>(to) = {a, b}; }
__device__ __forceinline__ void store_words(u32* to, u32 a, u32 b, u32 c, u32 d) { *reinterpret_cast<uint4*>(to) = {a, b, c, d}; }

// Two or four words in one access, as above.
__device__ __forceinline__ void load_words(const u32* from, u32 (&to)[2]) {
    const uint2 words = *reinterpret_cast<const uint2*>(from);
    to[0] = words.x, to[1] = words.y;
}
__device__ __forceinline__ void load_words(const u32* from, u32 (&to)[4]) {
    const uint4 words = *reinterpret_cast<const uint4*>(from);
    to[0] = words.x, to[1] = words.y, to[2] = words.z, to[3] = words.w;
}

// The float with these bits.
__device__ __forceinline__ float float_of_bits(u32 bits) { return __uint_as_float(bits); }

// 2^x to within two units in the last place, in one instruction; results below 2^-126 are 0.
__device__ __forceinline__ float exp2_approx(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

// A bfloat16, held as its bits, as a float.
__device__ __forceinline__ float bf16_to_float(u16 value) { return __uint_as_float(u32(value) << 16); }

// A float rounded to the nearest bfloat16, ties to even.
__device__ __forceinline__ u16 float_to_bf16(float value) {
    u16 rounded;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded) : "f"(value));
    return rounded;
}

// Two floats rounded to bfloat16 as above, `low` in the lower half.
__device__ __forceinline__ u32 floats_to_bf16(float low, float high) {
    u32 rounded;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(rounded) : "f"(high), "f"(low));
    return rounded;
}

// Two floats rounded to the nearest half-precision numbers, ties to even, `low` in the lower half; beyond 65,504 infinite.
__device__ __forceinline__ u32 floats_to_f16(float low, float high) {
    u32 rounded;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(rounded) : "f"(high), "f"(low));
    return rounded;
}

// A float rounded to the nearest TF32 (10 bits behind the point), ties away from zero; NaN stays NaN.
__device__ __forceinline__ u32 float_to_tf32(float value) {
    u32 rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
    return rounded;
}

__device__ __forceinline__ u32 shared_address(const void* at) { return u32(__cvta_generic_to_shared(at)); }

// Copies from global to shared memory behind the thread's back, or writes zeros where nothing exists (then `from` is not read). Both
// addresses are multiples of the size. What was copied is there after a wait for its group, for this thread; for others after a barrier.
__device__ __forceinline__ void copy_async_4(void* to, const void* from, bool exists) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from), "r"(exists ? 4 : 0) : "memory");
}
__device__ __forceinline__ void copy_async_16(void* to, const void* from, bool exists) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(exists ? 16 : 0) : "memory");
}
// Ends a group: this thread's copies since the last call, if any.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all groups of this thread but the last PENDING are there.
template <int PENDING>
__device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four registers of each lane of a warp: four 8 × 8 matrices of 16-bit elements, or 8 × 4 of 32 bits.
struct Matrices {
    u32 of[4];
};

// Lane l says where row l % 8 of matrix l / 8 lies in shared memory (16 bytes, aligned), and gets of each matrix the l % 4th word of row
// l / 4. All lanes of the warp must call it.
__device__ __forceinline__ Matrices load_matrices(const void* row) {
    Matrices m;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.of[0]), "=r"(m.of[1]), "=r"(m.of[2]), "=r"(m.of[3])
                 : "r"(shared_address(row)));
    return m;
}
// The same of the transposed matrices: lane l gets rows 2·(l % 4) and one more, column l / 4.
__device__ __forceinline__ Matrices load_matrices_transposed(const void* row) {
    Matrices m;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.of[0]), "=r"(m.of[1]), "=r"(m.of[2]), "=r"(m.of[3])
                 : "r"(shared_address(row)));
    return m;
}

// sum += a · b by the whole warp, 16 × 8 sums in f32. With g = lane / 4 and t = lane % 4 a lane holds
//   of sum: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1);
//   of a:   registers for rows g, g + 8, g, g + 8; the first two in the first half of k, the others in the second;
//   of b:   registers for column g, in the first and the second half of k;
// where half of k is one TF32 number at t of 4, or two 16-bit numbers at 2t and 2t + 1 of 8. Of TF32 the lower 13 bits do not count.
__device__ __forceinline__ void multiply_tf32(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void multiply_bf16(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void multiply_f16(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
