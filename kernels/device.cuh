// The dialect of CUDA in which the kernels are written: fixed-size types, shared memory, 16-byte accesses, conversions.
// Inline PTX stands in this file alone. The emulator puts a file of the same name in its place (src/backend/cuda/emulator/device.cuh)
// and compiles the very same kernels with a C++ compiler.
#pragma once

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

// Shared memory of the block, laid out as a T. All calls with one T give the same memory; its contents are unspecified at first.
template <class T>
__device__ __forceinline__ T& shared_memory() {
    __shared__ T memory;
    return memory;
}

// Four floats in one 16-byte access; the address must be a multiple of 16.
__device__ __forceinline__ float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ __forceinline__ void store4(float* to, float4 value) { *reinterpret_cast<float4*>(to) = value; }

// The float with these bits.
__device__ __forceinline__ float float_of_bits(u32 bits) { return __uint_as_float(bits); }

// A bfloat16, held as its bits, as a float.
__device__ __forceinline__ float bf16_to_float(u16 value) { return __uint_as_float(u32(value) << 16); }

// A float rounded to the nearest bfloat16, ties to even.
__device__ __forceinline__ u16 float_to_bf16(float value) {
    u16 rounded;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded) : "f"(value));
    return rounded;
}
