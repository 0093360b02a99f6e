// Kernels with a bug each, which the emulator must find (tests/emulator.rs). Nothing else uses them.
#include "cluster.cuh"
#include "common.cuh"
#include "hopper.cuh"
#include "tensor_product.cuh"

struct Row {
    float of[64];
};

// The neighbour's element may not be there yet.
extern "C" __global__ void __launch_bounds__(64) missing_barrier(float* x) {
    auto& row = shared_memory<Row>();
    row.of[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = row.of[(threadIdx.x + 1) % 64];
}

// Only half of the lanes come to the shuffle that names all of them.
extern "C" __global__ void __launch_bounds__(64) divergent_shuffle(float* x) {
    float value = x[threadIdx.x];
    if (threadIdx.x % 32 < 16) value += __shfl_xor_sync(FULL_WARP, value, 1);
    x[threadIdx.x] = value;
}

extern "C" __global__ void __launch_bounds__(64) store_past_the_end(float* x) { x[threadIdx.x + 1] = 1.0f; }

extern "C" __global__ void __launch_bounds__(64) load_before_the_start(const float* x, float* y) {
    y[threadIdx.x] = x[int(threadIdx.x) - 1];
}

extern "C" __global__ void __launch_bounds__(64) null_pointer(float* x) { x[threadIdx.x] = 1.0f; }

extern "C" __global__ void __launch_bounds__(64) misaligned_vector(float* x) {
    if (threadIdx.x < 8) store4(x + 4 * threadIdx.x + 1, {0.0f, 0.0f, 0.0f, 0.0f});
}

extern "C" __global__ void __launch_bounds__(64) uninitialised_shared_memory(float* x) {
    auto& row = shared_memory<Row>();
    if (threadIdx.x < 63) row.of[threadIdx.x] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = row.of[threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(64) past_shared_memory(float* x) {
    auto& row = shared_memory<Row>();
    row.of[threadIdx.x + u32(x[0])] = 1.0f;
}

struct TooMuch {
    float of[12289];
};

extern "C" __global__ void __launch_bounds__(64) too_much_shared_memory(float* x) {
    x[threadIdx.x] = shared_memory<TooMuch>().of[0];
}

// Each block adds to what the block before it left.
extern "C" __global__ void __launch_bounds__(64) depends_on_block_order(float* x) {
    if (threadIdx.x == 0) x[blockIdx.x + 1] = x[blockIdx.x] + 1.0f;
}

extern "C" __global__ void __launch_bounds__(64) two_blocks_write_one_place(float* x) {
    if (threadIdx.x == 0) x[0] = float(blockIdx.x);
}

extern "C" __global__ void __launch_bounds__(64) barrier_in_a_branch(float* x) {
    if (threadIdx.x < 32) __syncthreads();
    x[threadIdx.x] = 1.0f;
}

// Some wait at the barrier for others that wait at a shuffle for them.
extern "C" __global__ void __launch_bounds__(64) barrier_against_shuffle(float* x) {
    float value = x[threadIdx.x];
    if (threadIdx.x % 2 == 0) {
        __syncthreads();
    } else {
        value = __shfl_xor_sync(FULL_WARP, value, 1);
    }
    x[threadIdx.x] = value;
}

// Asynchronous copies: only the wait for a group makes sure that its data is there.
struct Rows {
    alignas(16) float of[2][64];
};

extern "C" __global__ void __launch_bounds__(64) reads_before_the_wait(float* x) {
    auto& rows = shared_memory<Rows>();
    copy_async_4(&rows.of[0][threadIdx.x], &x[threadIdx.x], true);
    commit_copies();
    x[threadIdx.x] = rows.of[0][threadIdx.x];
}

// The second group may still be under way.
extern "C" __global__ void __launch_bounds__(64) waits_for_too_few(float* x) {
    auto& rows = shared_memory<Rows>();
    copy_async_4(&rows.of[0][threadIdx.x], &x[threadIdx.x], true);
    commit_copies();
    copy_async_4(&rows.of[1][threadIdx.x], &x[threadIdx.x], false);
    commit_copies();
    wait_copies<1>();
    x[threadIdx.x] = rows.of[0][threadIdx.x] + rows.of[1][threadIdx.x];
}

// A thread waits for its own copies, not for its neighbour's.
extern "C" __global__ void __launch_bounds__(64) no_barrier_behind_the_wait(float* x) {
    auto& rows = shared_memory<Rows>();
    copy_async_4(&rows.of[0][threadIdx.x], &x[threadIdx.x], true);
    commit_copies();
    wait_copies<0>();
    x[threadIdx.x] = rows.of[0][(threadIdx.x + 1) % 64];
}

// The next copy goes where the neighbour still reads.
extern "C" __global__ void __launch_bounds__(64) stage_reused_too_early(float* x) {
    auto& rows = shared_memory<Rows>();
    rows.of[0][threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = rows.of[0][(threadIdx.x + 1) % 64];
    copy_async_4(&rows.of[0][threadIdx.x], &x[threadIdx.x], false);
    commit_copies();
}

extern "C" __global__ void __launch_bounds__(64) copy_from_a_crooked_address(float* x) {
    if (threadIdx.x == 0) copy_async_16(shared_memory<Rows>().of[0], x + 1, true);
}

extern "C" __global__ void __launch_bounds__(64) copy_to_a_crooked_address(float* x) {
    if (threadIdx.x == 0) copy_async_16(shared_memory<Rows>().of[0] + 1, x, true);
}

extern "C" __global__ void __launch_bounds__(64) copy_past_the_end(float* x) {
    copy_async_4(&shared_memory<Rows>().of[0][threadIdx.x], x + threadIdx.x + 1, true);
}

// Matrices: a row starts at a multiple of 16 bytes, and all lanes come.
extern "C" __global__ void __launch_bounds__(64) crooked_matrix_row(float* x) {
    auto& rows = shared_memory<Rows>();
    rows.of[0][threadIdx.x] = rows.of[1][threadIdx.x] = 0.0f;
    __syncthreads();
    x[threadIdx.x] = float_of_bits(load_matrices(&rows.of[threadIdx.x / 32][threadIdx.x % 32]).of[0]);
}

extern "C" __global__ void __launch_bounds__(64) lane_missing_at_a_product(float* x) {
    if (threadIdx.x == 31) return;
    float sum[4] = {};
    const u32 a[4] = {}, b[2] = {};
    multiply_tf32(sum, a, b);
    x[threadIdx.x] = sum[0];
}

extern "C" __global__ void __launch_bounds__(64) product_against_barrier(float* x) {
    float sum[4] = {};
    const u32 a[4] = {}, b[2] = {};
    if (threadIdx.x % 2 == 0) __syncthreads();
    multiply_bf16(sum, a, b);
    x[threadIdx.x] = sum[0];
}

// c = a · b, 16 × 8 results, by one warp: a is 16 × 8 or 16 × 16, b has its transpose in memory, both in f32. Not broken if `mistake` is
// 0; with 1 the second and the third register of a are exchanged, as if halves of k came before halves of the rows.
struct WarpOperands {
    alignas(16) u32 a[16][8], b[8][8], b_along_n[16][4];
};

// The numbers from here on that fit a word.
template <class Format>
__device__ __forceinline__ u32 word_at(const float* from) {
    if constexpr (Format::IN_A_WORD == 1)
        return float_to_tf32(from[0]);
    else
        return Format::word(from[0], from[1]);
}

template <class Format>
__device__ __forceinline__ void warp_product(const float* a, const float* b, float* c, int mistake) {
    auto& words = shared_memory<WarpOperands>();
    const int g = lane() / 4, t = lane() % 4, k = 8 * Format::IN_A_WORD;
    for (int i = lane(); i < 16 * 8; i += 32) {
        const float* from = a + i / 8 * k + i % 8 * k / 8;
        words.a[i / 8][i % 8] = word_at<Format>(from);
    }
    for (int i = lane(); i < 8 * 8; i += 32) {
        const float* from = b + i / 8 * k + i % 8 * k / 8;
        words.b[i / 8][i % 8] = word_at<Format>(from);
    }
    for (int i = lane(); k == 16 && i < 16 * 4; i += 32) {
        const int row = i / 4, column = i % 4 * 2;
        const float two[2] = {b[column * k + row], b[(column + 1) * k + row]};
        words.b_along_n[row][column / 2] = word_at<Format>(two);
    }
    __syncthreads();
    const Matrices of_a = load_matrices(&words.a[lane() % 16][lane() / 16 * 4]);
    const u32 four[4] = {of_a.of[0], of_a.of[mistake ? 2 : 1], of_a.of[mistake ? 1 : 2], of_a.of[3]};
    float sum[4] = {};
    if (k == 16) {  // b as it lies for matrices that run along n.
        const Matrices of_b = load_matrices_transposed(words.b_along_n[lane() % 16]);
        const u32 two[2] = {of_b.of[0], of_b.of[1]};
        Format::multiply(sum, four, two);
    } else {
        const u32 two[2] = {words.b[g][t], words.b[g][t + 4]};
        Format::multiply(sum, four, two);
    }
    for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

extern "C" __global__ void __launch_bounds__(32) warp_product_tf32(const float* a, const float* b, float* c, int mistake) {
    warp_product<Tf32>(a, b, c, mistake);
}
extern "C" __global__ void __launch_bounds__(32) warp_product_bf16(const float* a, const float* b, float* c, int mistake) {
    warp_product<Bf16>(a, b, c, mistake);
}
extern "C" __global__ void __launch_bounds__(32) warp_product_f16(const float* a, const float* b, float* c, int mistake) {
    warp_product<F16>(a, b, c, mistake);
}

// Products by four warps: c = a · bᵀ, 64 × 128 results of 8 TF32 or 16 shorter numbers a row, all in f32 in memory; b arrives by bulk copy from
// where it lies packed. `mistake` says what is wrong; with NONE nothing is.
enum Mistake : int {
    NONE,
    HALVES_EXCHANGED,           // Halves of k taken for groups of 8 rows.
    NO_WAIT_FOR_THE_COPY,
    NOT_SHOWN,
    NO_BARRIER,
    NO_BEGIN,
    SUMS_READ_TOO_EARLY,
    OPERAND_REUSED_TOO_EARLY,   // After the wait of one thread only.
    OPERAND_OVERWRITTEN,        // By a store.
    NEVER_WAITED_FOR,
    COPY_NEVER_WAITED_FOR,
    PHASE_NEVER_ENDS,
    BARRIER_NOT_ANNOUNCED,
    WARP_MISSING,
    TOO_MANY_ARRIVALS,
    CROOKED_COPY,
    ONE_WARP_WAITS,             // For the copy; the others go on.
    READ_BEFORE_THE_WAIT,       // Of what the copy brought, by another thread than the one that waited.
};

struct WarpgroupOperands {
    alignas(128) u32 a[8][2][8][4], b[16][2][8][4];
    PhaseBarrier arrived, used;
};

template <class Format, class Multiply>
__device__ __forceinline__ void warpgroup_product(const float* a, const u32* b, float* c, int mistake, Multiply multiply) {
    auto& memory = shared_memory<WarpgroupOperands>();
    const u32 bytes = mistake == CROOKED_COPY ? 4088 : 4096;
    if (threadIdx.x == 0) {
        make_barrier(memory.arrived, mistake == PHASE_NEVER_ENDS ? 2 : 1);
        make_barrier(memory.used, 4);
        if (mistake != BARRIER_NOT_ANNOUNCED) barriers_are_made();
        arrive_with_copy(memory.arrived, memory.b, b, bytes);
        if (mistake == TOO_MANY_ARRIVALS) arrive(memory.arrived);
    }
    __syncthreads();
    const int k = 8 * Format::IN_A_WORD;
    for (int i = threadIdx.x; i < 64 * 8; i += 128) {
        const int row = i / 8, word = i % 8;
        const float* from = a + row * k + word * (k / 8);
        memory.a[row / 8][word / 4][row % 8][word % 4] = word_at<Format>(from);
    }
    if (mistake != NOT_SHOWN) show_to_products();
    if (mistake != NO_BARRIER) __syncthreads();
    if (mistake != NO_WAIT_FOR_THE_COPY && mistake != COPY_NEVER_WAITED_FOR) {
        const bool some_go_on = mistake == ONE_WARP_WAITS || mistake == READ_BEFORE_THE_WAIT;
        if (!some_go_on || warp() == 0) wait_for_phase(memory.arrived, 0);
    }
    if (mistake == READ_BEFORE_THE_WAIT) {
        __shfl_sync(FULL_WARP, 0, 0);
        c[threadIdx.x] = float_of_bits(memory.b[0][0][0][0]);
    }
    if (mistake == COPY_NEVER_WAITED_FOR) return;
    if (mistake == WARP_MISSING && threadIdx.x >= 96) return;
    const u32 halves = mistake == HALVES_EXCHANGED ? 256 : 128, eights = mistake == HALVES_EXCHANGED ? 128 : 256;
    const SharedRows rows_of_a(memory.a, halves, eights), rows_of_b(memory.b, 128, 256);
    float sum[64] = {};
    if (mistake != NO_BEGIN) begin_products();
    multiply(sum, rows_of_a, rows_of_b);
    commit_products();
    if (mistake == OPERAND_OVERWRITTEN) memory.a[0][0][0][threadIdx.x % 4] = 0;
    if (mistake == NEVER_WAITED_FOR) return;
    if (mistake != SUMS_READ_TOO_EARLY) wait_products<0>();
    if (mistake == OPERAND_REUSED_TOO_EARLY) {
        if (threadIdx.x == 0) arrive_with_copy(memory.arrived, memory.b, b, bytes);
        wait_for_phase(memory.arrived, 1);
    }
    const int row = warp() * 16 + lane() / 4, column = lane() % 4 * 2;
    for (int i = 0; i < 64; ++i) c[(row + i / 2 % 2 * 8) * 128 + i / 4 * 8 + column + i % 2] = sum[i];
}

extern "C" __global__ void __launch_bounds__(128) warpgroup_product_tf32(const float* a, const u32* b, float* c, int mistake) {
    warpgroup_product<Tf32>(a, b, c, mistake, multiply_shared_tf32);
}
extern "C" __global__ void __launch_bounds__(128) warpgroup_product_bf16(const float* a, const u32* b, float* c, int mistake) {
    warpgroup_product<Bf16>(a, b, c, mistake, multiply_shared_bf16);
}
extern "C" __global__ void __launch_bounds__(128) warpgroup_product_f16(const float* a, const u32* b, float* c, int mistake) {
    warpgroup_product<F16>(a, b, c, mistake, multiply_shared_f16);
}

// Each block of a cluster puts its rank into the next one, and then what it got there; x has 64 numbers of each block, which are the ranks of those
// two places before. `mistake` says what is wrong; with FINE nothing is.
enum ClusterMistake : int {
    FINE,
    NOT_THERE_YET,     // No barrier before the first number is put into another block.
    BLOCK_MISSING,
    BLOCK_WAITS_ALONE, // A barrier of the block in place of the cluster's.
    PUT_TOO_EARLY,     // Where the number before is read.
    NEVER_ARRIVED,
    NO_SUCH_BLOCK,
    CROOKED_FETCH,
    FETCH_PAST_THE_END,
};

struct Slot {
    float of_block;
};

extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(64) cluster_rotation(float* x, int mistake) {
    auto& slot = shared_memory<Slot>().of_block;
    if (mistake == CROOKED_FETCH) fetch_to_cache(x + 1, 16);
    if (mistake == FETCH_PAST_THE_END) fetch_to_cache(x, 1 << 20);
    if (mistake != NOT_THERE_YET) cluster_barrier();
    const u32 next = mistake == NO_SUCH_BLOCK ? CLUSTER : (cluster_rank() + 1) % CLUSTER;
    if (threadIdx.x == 0) put_in_block(slot, next, float(cluster_rank()));
    if (mistake == BLOCK_MISSING && cluster_rank() == 3) return;
    if (mistake == BLOCK_WAITS_ALONE)
        __syncthreads();
    else
        cluster_barrier();
    const float before = slot;
    if (mistake != PUT_TOO_EARLY) cluster_barrier();
    if (threadIdx.x == 0) put_in_block(slot, next, before);
    if (mistake == NEVER_ARRIVED) return;
    cluster_barrier();
    x[blockIdx.x * 64 + threadIdx.x] = slot;
}
