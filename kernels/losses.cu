// Losses of rows of logits, with their gradients. Softmaxes, divergence, cross-entropy and gradient are one kernel: a warp (up to 32 classes
// eight lanes, from 1,024 on a block) takes a row, gathers the statistics of all its softmaxes in one online pass (softmax.cuh), and in further
// passes over the row adds up the divergence and writes the gradient. While the rows at work fit in the second-level cache, each logit is
// read from memory once and each gradient written once: 12 bytes a class in f32, 6 in bf16, which is what limits it. The rows' losses are added up in a fixed order
// by one block. Logits are f32 or bf16; all arithmetic is f32.
#include "softmax.cuh"

// What the rows' losses are divided by, as two floats: the summed weights of the samples that have a label, and those of all samples. A
// sample without a weight counts 1.
extern "C" __global__ void __launch_bounds__(256)
    sum_weights(const int* labels, const float* sample_weights, float* totals, u32 rows) {
    double labelled = 0.0, all = 0.0;
    for (u32 i = threadIdx.x; i < rows; i += blockDim.x) {
        const double weight = sample_weights ? double(sample_weights[i]) : 1.0;
        all += weight;
        if (!labels || labels[i] != IGNORE_INDEX) labelled += weight;
    }
    labelled = block_reduce(labelled, Add());
    all = block_reduce(all, Add());
    if (threadIdx.x == 0) {
        totals[0] = labelled > 0.0 ? float(labelled) : 1.0f;
        totals[1] = all > 0.0 ? float(all) : 1.0f;
    }
}

// (1 − ε) · −log p_y + ε · mean over classes of −log p, for each row; the gradient is that of the mean over the rows that count.
template <class Team>
__device__ __forceinline__ void cross_entropy(const float* logits, const int* labels, const float* totals, float smoothing, float* losses,
                                              float* grad, u32 rows, u32 classes) {
    const float share = 1.0f / totals[0], each = smoothing / float(classes);
    const Walk<Team> walk(classes);
    for (u32 row = Team::row(); row < rows; row += Team::rows()) {
        const float* z = logits + row * classes;
        const int label = labels[row];
        const bool counts = label != IGNORE_INDEX;
        SoftmaxState state = SoftmaxState::empty();
        for (u32 i = walk.first; i < walk.end; i += walk.step()) {
            const There there = walk.there(i);
            float own[4];
            walk.load(z, i, there, own);
            state.add(own, there, 1.0f);
        }
        state = Team::merge(state, 1.0f);
        const float log_sum = state.log_sum();
        float sum_log_p = 0.0f;
        for (u32 i = walk.first; i < walk.end; i += walk.step()) {
            const There there = walk.there(i);
            float own[4];
            walk.load(z, i, there, own);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float log_p = state.log_softmax(own[j], 1.0f, log_sum);
                const float target = each + (int(i + j * walk.stride) == label ? 1.0f - smoothing : 0.0f);
                if (there.of[j]) sum_log_p += target * log_p;
                own[j] = counts ? (expf(log_p) - target) * share : 0.0f;
            }
            walk.store(grad + row * classes, i, there, own);
        }
        // Targets of 0 times −∞ are not wanted: without smoothing only the label's term counts.
        const float loss = smoothing == 0.0f ? (counts ? -state.log_softmax(z[label], 1.0f, log_sum) : 0.0f) : -Team::sum(sum_log_p);
        if (Team::rank() == 0) losses[row] = counts ? loss : 0.0f;
    }
}

extern "C" __global__ void __launch_bounds__(256) cross_entropy_part(const float* logits, const int* labels, const float* totals,
                                                                     float smoothing, float* losses, float* grad, u32 rows, u32 classes) {
    cross_entropy<PartTeam>(logits, labels, totals, smoothing, losses, grad, rows, classes);
}

extern "C" __global__ void __launch_bounds__(256) cross_entropy_warp(const float* logits, const int* labels, const float* totals,
                                                                     float smoothing, float* losses, float* grad, u32 rows, u32 classes) {
    cross_entropy<WarpTeam>(logits, labels, totals, smoothing, losses, grad, rows, classes);
}

extern "C" __global__ void __launch_bounds__(512) cross_entropy_block(const float* logits, const int* labels, const float* totals,
                                                                      float smoothing, float* losses, float* grad, u32 rows, u32 classes) {
    cross_entropy<BlockTeam>(logits, labels, totals, smoothing, losses, grad, rows, classes);
}

// What the distillation loss is told, in device memory, so that a schedule can change it without another launch.
struct DistillationSettings {
    float temperature;
    float hard_weight;
    float soft_weight;
    float beta;
};

// Divergences between the teacher's p and the student's q: what a class adds to the sum, given δ = log p − log q, and the derivative of
// the sum with respect to q (up to a constant, which the softmax's own gradient removes).

// KL(p ‖ q), as p · (e^−δ − 1 + δ): the same sum, since Σp = Σq, but without negative terms, so that it keeps its digits when T is large
// and every δ is tiny. Its gradient needs no derivative: it is q − p.
struct ForwardKl {
    static constexpr bool needs_centre = false;
    __device__ __forceinline__ static float term(float p, float q, float delta, float) {
        if (delta * delta < 0.0625f) {
            const float series =
                0.5f - delta * (1.0f / 6 - delta * (1.0f / 24 - delta * (1.0f / 120 - delta * (1.0f / 720 - delta / 5040))));
            return p * delta * delta * series;
        }
        return p > 0.0f ? q - p + p * delta : q;
    }
    __device__ __forceinline__ static float slope(float, float) { return 0.0f; }
};

// KL(q ‖ p).
struct ReverseKl {
    static constexpr bool needs_centre = true;
    __device__ __forceinline__ static float term(float p, float q, float delta, float) { return ForwardKl::term(q, p, -delta, 0.0f); }
    __device__ __forceinline__ static float slope(float delta, float) { return -delta; }
};

// β · KL(p ‖ m) + (1 − β) · KL(q ‖ m) with m = β · p + (1 − β) · q (Agarwal et al. 2024).
struct JensenShannon {
    static constexpr bool needs_centre = true;
    // log m − log q, from δ alone where q is not too small against p.
    __device__ __forceinline__ static float log_mixture(float delta, float beta) {
        return delta > 0.0f ? delta + logf(beta + (1.0f - beta) * expf(-delta)) : log1pf(beta * (expf(delta) - 1.0f));
    }
    __device__ __forceinline__ static float term(float p, float q, float delta, float beta) {
        const float m = beta * p + (1.0f - beta) * q, from_q = log_mixture(delta, beta);
        return beta * ForwardKl::term(p, m, delta - from_q, 0.0f) + (1.0f - beta) * ForwardKl::term(q, m, -from_q, 0.0f);
    }
    __device__ __forceinline__ static float slope(float delta, float beta) { return -(1.0f - beta) * log_mixture(delta, beta); }
};

// hard_weight · CE(softmax(s), y) + soft_weight · scale · D(softmax(t / T), softmax(s / T)), means over the rows (Hinton, Vinyals & Dean
// 2015 for D = KL and scale = T²). With q = softmax(s / T) and the derivative g of D with respect to q, the soft term's gradient is
// soft_weight · scale / T · q · (g − Σ q·g); for KL that is soft_weight · scale / T · (q − p).
template <class Divergence, class Logit, class Team>
__device__ __forceinline__ void distillation(const Logit* student, const Logit* teacher, const int* labels, const float* sample_weights,
                                             const float* totals, const DistillationSettings* settings, int scale_by_t2,
                                             float* hard_losses, float* soft_losses, Logit* grad, u32 rows, u32 classes) {
    const float t = settings->temperature, inverse = 1.0f / t, beta = settings->beta, scale = scale_by_t2 ? t * t : 1.0f;
    const Walk<Team> walk(classes);
    for (u32 row = Team::row(); row < rows; row += Team::rows()) {
        const Logit* s = student + row * classes;
        const Logit* z = teacher + row * classes;
        SoftmaxState hard = SoftmaxState::empty(), soft = hard, guide = hard;
        for (u32 i = walk.first; i < walk.end; i += walk.step()) {
            const There there = walk.there(i);
            float own[4], other[4];
            walk.load(s, i, there, own);
            walk.load(z, i, there, other);
            hard.add(own, there, 1.0f);
            soft.add(own, there, inverse);
            guide.add(other, there, inverse);
        }
        hard = Team::merge(hard, 1.0f);
        soft = Team::merge(soft, inverse);
        guide = Team::merge(guide, inverse);
        hard.max = soft.max;  // Of the same logits: one register.
        const float hard_log_sum = hard.log_sum(), soft_log_sum = soft.log_sum(), guide_log_sum = guide.log_sum();
        const int label = labels ? labels[row] : IGNORE_INDEX;
        const bool counts = label != IGNORE_INDEX;
        const float weight = sample_weights ? sample_weights[row] : 1.0f;
        const float hard_share = counts ? settings->hard_weight * weight / totals[0] : 0.0f;
        const float soft_share = settings->soft_weight * weight * scale * inverse / totals[1];

        // The gradient of class i, whose soft part is soft_share · d.
        const auto gradient = [&](u32 i, float own, float d) {
            const float hit = int(i) == label ? 1.0f : 0.0f;
            return hard_share * (expf(hard.log_softmax(own, 1.0f, hard_log_sum)) - hit) + soft_share * d;
        };
        float divergence = 0.0f, centre = 0.0f;
        for (u32 i = walk.first; i < walk.end; i += walk.step()) {
            const There there = walk.there(i);
            float own[4], other[4];
            walk.load(s, i, there, own);
            walk.load(z, i, there, other);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float log_q = soft.log_softmax(own[j], inverse, soft_log_sum);
                const float log_p = guide.log_softmax(other[j], inverse, guide_log_sum);
                const float q = expf(log_q), p = expf(log_p), delta = log_p - log_q;
                if (there.of[j]) {
                    divergence += Divergence::term(p, q, delta, beta);
                    centre += q * Divergence::slope(delta, beta);
                }
                own[j] = gradient(i + j * walk.stride, own[j], q - p);
            }
            if (!Divergence::needs_centre) walk.store(grad + row * classes, i, there, own);
        }
        if (Divergence::needs_centre) {
            centre = Team::sum(centre);
            for (u32 i = walk.first; i < walk.end; i += walk.step()) {
                const There there = walk.there(i);
                float own[4], other[4];
                walk.load(s, i, there, own);
                walk.load(z, i, there, other);
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    const float log_q = soft.log_softmax(own[j], inverse, soft_log_sum);
                    const float log_p = guide.log_softmax(other[j], inverse, guide_log_sum);
                    const float d = expf(log_q) * (Divergence::slope(log_p - log_q, beta) - centre);
                    own[j] = gradient(i + j * walk.stride, own[j], d);
                }
                walk.store(grad + row * classes, i, there, own);
            }
        }
        divergence = Team::sum(divergence);
        if (Team::rank() == 0) {
            hard_losses[row] = counts ? -weight * hard.log_softmax(logit(s[label]), 1.0f, hard_log_sum) : 0.0f;
            soft_losses[row] = weight * scale * divergence;
        }
    }
}

// BLOCKS on a multiprocessor at once, said because the compiler would rather spill a word than let go of one more.
#define DISTILLATION(NAME, DIVERGENCE, LOGIT, THREADS, BLOCKS, TEAM)                                                          \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                                             \
        NAME(const LOGIT* student, const LOGIT* teacher, const int* labels, const float* sample_weights, const float* totals, \
             const DistillationSettings* settings, int scale_by_t2, float* hard_losses, float* soft_losses, LOGIT* grad,      \
             u32 rows, u32 classes) {                                                                                         \
        distillation<DIVERGENCE, LOGIT, TEAM>(student, teacher, labels, sample_weights, totals, settings, scale_by_t2,        \
                                              hard_losses, soft_losses, grad, rows, classes);                                 \
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

// Noise-contrastive estimation: with e = exp(score / τ − shift), Σ counts · log(floor + e) + log(floor / e + 1) of the row's own column, and
// its slope by each score. Each score and count is read once and each slope written once: 12 bytes an element.
template <class Team>
__device__ __forceinline__ void noise_contrast(const float* scores, const int* own, const float* counts, float inverse, float shift,
                                               float floor, float* losses, float* slopes, u32 rows, u32 columns) {
    for (u32 row = Team::row(); row < rows; row += Team::rows()) {
        const u32 partner = u32(own[row]);
        float loss = 0.0f;
        for (u32 i = Team::rank(); i < columns; i += Team::size()) {
            const u32 at = row * columns + i;
            const float odds = expf(scores[at] * inverse - shift), sum = floor + odds, count = counts[at];
            loss += count * logf(sum);
            float slope = count * (odds / sum);
            if (i == partner) {
                loss += log1pf(floor / odds);
                slope -= floor / sum;
            }
            slopes[at] = inverse * slope;
        }
        loss = Team::sum(loss);
        if (Team::rank() == 0) losses[row] = loss;
    }
}

extern "C" __global__ void __launch_bounds__(256)
    noise_contrast_warp(const float* scores, const int* own, const float* counts, float inverse, float shift, float floor, float* losses,
                        float* slopes, u32 rows, u32 columns) {
    noise_contrast<WarpTeam>(scores, own, counts, inverse, shift, floor, losses, slopes, rows, columns);
}

extern "C" __global__ void __launch_bounds__(512)
    noise_contrast_block(const float* scores, const int* own, const float* counts, float inverse, float shift, float floor, float* losses,
                         float* slopes, u32 rows, u32 columns) {
    noise_contrast<BlockTeam>(scores, own, counts, inverse, shift, floor, losses, slopes, rows, columns);
}

// The sum of the rows' losses in double, each thread's rows in order and then the threads in a fixed tree.
__device__ __forceinline__ double total(const float* losses, u32 rows) {
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < rows; i += blockDim.x) sum += double(losses[i]);
    return block_reduce(sum, Add());
}

// One block: the mean over the samples that count.
extern "C" __global__ void __launch_bounds__(256) mean_losses(const float* losses, const float* totals, float* mean, u32 rows) {
    const double sum = total(losses, rows);
    if (threadIdx.x == 0) *mean = float(sum / double(totals[0]));
}

// One block: the weighted sum of the means, and both means. A weight of 0 leaves its term out even where the term overflows.
extern "C" __global__ void __launch_bounds__(256)
    mean_distillation_losses(const float* hard_losses, const float* soft_losses, const float* totals,
                             const DistillationSettings* settings, float* all, float* hard, float* soft, u32 rows) {
    const double hard_mean = total(hard_losses, rows) / double(totals[0]);
    const double soft_mean = total(soft_losses, rows) / double(totals[1]);
    if (threadIdx.x == 0) {
        const double hard_term = settings->hard_weight == 0.0f ? 0.0 : double(settings->hard_weight) * hard_mean;
        const double soft_term = settings->soft_weight == 0.0f ? 0.0 : double(settings->soft_weight) * soft_mean;
        *all = float(hard_term + soft_term);
        *hard = float(hard_mean);
        *soft = float(soft_mean);
    }
}
