// The distillation loss (distillation.cuh) of rows that one team of threads takes: up to 32 classes eight lanes, up to 1,024 a warp, else a
// block. Later passes read a row from the second-level cache, which holds all rows at work of up to some 20,000 classes (H100, f32).
#include "distillation.cuh"

// BLOCKS on a multiprocessor at once, said because the compiler would rather spill a word than let go of one more.
#define DISTILLATION(NAME, DIVERGENCE, LOGIT, THREADS, BLOCKS, TEAM)                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) NAME(DISTILLATION_PARAMETERS(LOGIT)) {                 \
        distillation<DIVERGENCE, 0>(WholeRow<TEAM>(), DISTILLATION_ARGUMENTS);                                            \
    }

DISTILLATION(forward_kl_f32_part, ForwardKl, float, 256, 4, PartTeam)
DISTILLATION(forward_kl_f32_warp, ForwardKl, float, 256, 4, WarpTeam)
DISTILLATION(forward_kl_f32_block, ForwardKl, float, 512, 2, BlockTeam)
DISTILLATION(forward_kl_bf16_part, ForwardKl, u16, 256, 4, PartTeam)
DISTILLATION(forward_kl_bf16_warp, ForwardKl, u16, 256, 4, WarpTeam)
DISTILLATION(forward_kl_bf16_block, ForwardKl, u16, 512, 2, BlockTeam)
DISTILLATION(reverse_kl_f32_part, ReverseKl, float, 256, 4, PartTeam)
DISTILLATION(reverse_kl_f32_warp, ReverseKl, float, 256, 4, WarpTeam)
DISTILLATION(reverse_kl_f32_block, ReverseKl, float, 512, 2, BlockTeam)
DISTILLATION(reverse_kl_bf16_part, ReverseKl, u16, 256, 4, PartTeam)
DISTILLATION(reverse_kl_bf16_warp, ReverseKl, u16, 256, 4, WarpTeam)
DISTILLATION(reverse_kl_bf16_block, ReverseKl, u16, 512, 2, BlockTeam)
DISTILLATION(jensen_shannon_f32_part, JensenShannon, float, 256, 4, PartTeam)
DISTILLATION(jensen_shannon_f32_warp, JensenShannon, float, 256, 4, WarpTeam)
DISTILLATION(jensen_shannon_f32_block, JensenShannon, float, 512, 2, BlockTeam)
DISTILLATION(jensen_shannon_bf16_part, JensenShannon, u16, 256, 4, PartTeam)
DISTILLATION(jensen_shannon_bf16_warp, JensenShannon, u16, 256, 4, WarpTeam)
DISTILLATION(jensen_shannon_bf16_block, JensenShannon, u16, 512, 2, BlockTeam)
