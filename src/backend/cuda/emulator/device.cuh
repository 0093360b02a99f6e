// The dialect of CUDA in which the kernels are written, for a C++ compiler: this file stands in for kernels/device.cuh when the emulator
// compiles the kernels. Threads are coroutines; what threads do together is done by the emulator's scheduler (block.rs), and every access
// to memory is shown to it first, because the kernels are compiled with the thread sanitizer's hooks, which the emulator defines
// (hooks.rs). Multiplications and additions are not contracted, as on the CPU.
#pragma once
#include <math.h>
#include <cstddef>
#include <cstring>
#include <type_traits>

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

// The build script finds kernels by these words.
#ifdef EMULATOR_SCAN
#define __global__ EMULATED_KERNEL
#define __launch_bounds__(...) EMULATED_BOUNDS(__VA_ARGS__)
#define __cluster_dims__(...) EMULATED_CLUSTER(__VA_ARGS__)
#else
#define __global__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#endif
#define __device__
#define __forceinline__

struct dim3 {
    u32 x, y, z;
};

struct alignas(16) float4 {
    float x, y, z, w;
};

// Where the running thread is; set by the scheduler before it resumes a thread.
struct EmulatedPlace {
    dim3 thread, block, block_dim, grid_dim;
};
extern __thread EmulatedPlace emulated_place;
#define threadIdx emulated_place.thread
#define blockIdx emulated_place.block
#define blockDim emulated_place.block_dim
#define gridDim emulated_place.grid_dim

extern "C" {
// Waits until all threads of the block are here.
void emulated_barrier();
// Waits until all lanes of the mask are here; returns what `source` brought.
u64 emulated_shuffle(u32 mask, u64 value, u32 source);
// The block's memory for the type with this key.
void* emulated_shared_memory(const void* key, size_t bytes, size_t alignment);
int emulated_atomic_add(int* at, int value);
// Ends the thread with an error.
void emulated_misaligned(const void* at);
// A copy to shared memory of `bytes` bytes, zeros if `exists` is 0, that happens when its group is waited for.
void emulated_copy_async(void* to, const void* from, u32 bytes, u32 exists);
void emulated_commit_copies();
void emulated_wait_copies(u32 pending);
// Waits until all lanes of the warp are here; then each has its four registers of the result.
void emulated_load_matrices(const void* row, u32 transposed, u32* registers);
// `format`: 0 TF32, 1 bfloat16, 2 half precision.
void emulated_multiply_matrices(u32 format, const u32* a, const u32* b, float* sum);
u16 emulated_float_to_f16(float value);
}

inline void __syncthreads() { emulated_barrier(); }

template <class T>
T emulated_shuffle_of(u32 mask, T value, u32 source) {
    static_assert(sizeof(T) <= sizeof(u64), "a shuffle moves up to 8 bytes");
    u64 bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = emulated_shuffle(mask, bits, source);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}
template <class T>
T __shfl_xor_sync(u32 mask, T value, int distance) {
    return emulated_shuffle_of(mask, value, (threadIdx.x % 32) ^ u32(distance));
}
template <class T>
T __shfl_sync(u32 mask, T value, int source) {
    return emulated_shuffle_of(mask, value, u32(source) % 32);
}

inline int atomicAdd(int* at, int value) { return emulated_atomic_add(at, value); }

template <class T>
T& shared_memory() {
    static const char key = 0;
    return *static_cast<T*>(emulated_shared_memory(&key, sizeof(T), alignof(T)));
}

inline const float* aligned(const float* at) {
    if (reinterpret_cast<size_t>(at) % sizeof(float4) != 0) emulated_misaligned(at);
    return at;
}
inline float4 load4(const float* from) { return *reinterpret_cast<const float4*>(aligned(from)); }
inline void store4(float* to, float4 value) { *reinterpret_cast<float4*>(const_cast<float*>(aligned(to))) = value; }

inline void store_words(u32* to, u32 a, u32 b) { *reinterpret_cast<u64*>(to) = u64(b) << 32 | a; }
inline void store_words(u32* to, u32 a, u32 b, u32 c, u32 d) {
    struct alignas(16) Words {
        u32 a, b, c, d;
    };
    *reinterpret_cast<Words*>(to) = Words{a, b, c, d};
}

inline void load_words(const u32* from, u32 (&to)[2]) {
    const u64 words = *reinterpret_cast<const u64*>(from);
    to[0] = u32(words), to[1] = u32(words >> 32);
}
inline void load_words(const u32* from, u32 (&to)[4]) {
    const float4 words = load4(reinterpret_cast<const float*>(from));
    std::memcpy(to, &words, sizeof words);
}

inline float float_of_bits(u32 bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline u32 bits_of_float(float value) {
    u32 bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline float exp2_approx(float x) {
    const float power = exp2f(x);
    return power < 1.17549435e-38f ? 0.0f : power;
}
inline float bf16_to_float(u16 value) { return float_of_bits(u32(value) << 16); }
inline u16 float_to_bf16(float value) {
    const u32 bits = bits_of_float(value);
    if (value != value) return 0x7fff;
    return u16((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
inline u32 floats_to_bf16(float low, float high) { return u32(float_to_bf16(high)) << 16 | float_to_bf16(low); }
inline u32 floats_to_f16(float low, float high) { return u32(emulated_float_to_f16(high)) << 16 | emulated_float_to_f16(low); }
inline u32 float_to_tf32(float value) {
    const u32 bits = bits_of_float(value);
    return value != value ? 0x7fffffffu : (bits + 0x1000u) & 0xffffe000u;
}

inline void copy_async_4(void* to, const void* from, bool exists) { emulated_copy_async(to, from, 4, exists); }
inline void copy_async_16(void* to, const void* from, bool exists) { emulated_copy_async(to, from, 16, exists); }
inline void commit_copies() { emulated_commit_copies(); }
template <int PENDING>
void wait_copies() {
    emulated_wait_copies(PENDING);
}

struct Matrices {
    u32 of[4];
};
inline Matrices load_matrices(const void* row) {
    Matrices m;
    emulated_load_matrices(row, 0, m.of);
    return m;
}
inline Matrices load_matrices_transposed(const void* row) {
    Matrices m;
    emulated_load_matrices(row, 1, m.of);
    return m;
}
inline void multiply_tf32(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) { emulated_multiply_matrices(0, a, b, sum); }
inline void multiply_bf16(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) { emulated_multiply_matrices(1, a, b, sum); }
inline void multiply_f16(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) { emulated_multiply_matrices(2, a, b, sum); }

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline u32 min(u32 a, u32 b) { return a < b ? a : b; }
inline u32 max(u32 a, u32 b) { return a > b ? a : b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
