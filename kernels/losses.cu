// Losses of rows of logits, with their gradients, beside the distillation loss (distillation.cuh): cross-entropy, noise-contrastive estimation,
// and the means of rows' losses, added up in a fixed order by one block. A warp (up to 32 classes eight lanes, from 1,024 on a block) takes a
// row, gathers its statistics in one online pass (softmax.cuh) and writes the gradient in a second one, from cache: 8 bytes a class.
#include "distillation.cuh"
#include "softmax.cuh"

// What the rows' losses are divided by, as two floats (softmax.cuh). A sample without a weight counts 1.
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
    const float share = 1.0f / labelled_weight(totals, rows), each = smoothing / float(classes);
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
    if (threadIdx.x == 0) *mean = float(sum / double(labelled_weight(totals, rows)));
}

// One block: the weighted sum of the means, and both means. A row has one hard loss, and its soft one in so many parts. A weight of 0 leaves its
// term out even where the term overflows.
extern "C" __global__ void __launch_bounds__(256)
    mean_distillation_losses(const float* hard_losses, const float* soft_losses, const float* totals,
                             const DistillationSettings* settings, float* all, float* hard, float* soft, u32 rows, u32 parts) {
    const double hard_mean = total(hard_losses, rows) / double(labelled_weight(totals, rows));
    const double soft_mean = total(soft_losses, rows * parts) / double(whole_weight(totals, rows));
    if (threadIdx.x == 0) {
        const double hard_term = settings->hard_weight == 0.0f ? 0.0 : double(settings->hard_weight) * hard_mean;
        const double soft_term = settings->soft_weight == 0.0f ? 0.0 : double(settings->soft_weight) * soft_mean;
        *all = float(hard_term + soft_term);
        *hard = float(hard_mean);
        *soft = float(soft_mean);
    }
}
