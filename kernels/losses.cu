// Losses of rows of logits, with their gradients. Softmax, divergence, cross-entropy and gradient are one kernel: a warp (or, for more
// than 1,024 classes, a block) takes a row, gathers the statistics of all its softmaxes in one online pass (softmax.cuh), and in a second
// pass over the row, which is then in cache, writes the gradient and adds up the divergence. From memory each logit is read once and each
// gradient written once: 12 bytes a class for the distillation loss, which is what limits it. The rows' losses are added up in a fixed
// order by one block of `mean_losses`.
#include "softmax.cuh"

// How many samples count, as a float.
extern "C" __global__ void __launch_bounds__(256) count_labels(const int* labels, float* count, u32 rows) {
    int counted = 0;
    for (u32 i = threadIdx.x; i < rows; i += blockDim.x) counted += labels[i] != IGNORE_INDEX;
    counted = block_reduce(counted, Add());
    if (threadIdx.x == 0) *count = float(max(counted, 1));
}

// (1 − ε) · −log p_y + ε · mean over classes of −log p, for each row; the gradient is that of the mean over the rows that count.
template <class Team>
__device__ __forceinline__ void cross_entropy(const float* logits, const int* labels, const float* count, float smoothing, float* losses,
                                              float* grad, u32 rows, u32 classes) {
    const float share = 1.0f / *count, each = smoothing / float(classes);
    for (u32 row = Team::row(); row < rows; row += Team::rows()) {
        const float* z = logits + row * classes;
        const int label = labels[row];
        const bool counts = label != IGNORE_INDEX;
        SoftmaxState state = SoftmaxState::empty();
        for (u32 i = Team::rank(); i < classes; i += Team::size()) state.add(z[i]);
        state = Team::merge(state);
        const float log_sum = state.log_sum();
        float sum_log_p = 0.0f;
        for (u32 i = Team::rank(); i < classes; i += Team::size()) {
            const float log_p = (z[i] - state.max) - log_sum;
            const float target = each + (int(i) == label ? 1.0f - smoothing : 0.0f);
            sum_log_p += target * log_p;
            grad[row * classes + i] = counts ? (expf(log_p) - target) * share : 0.0f;
        }
        // Targets of 0 times −∞ are not wanted: without smoothing only the label's term counts.
        const float loss = smoothing == 0.0f ? (counts ? -((z[label] - state.max) - log_sum) : 0.0f) : -Team::sum(sum_log_p);
        if (Team::rank() == 0) losses[row] = counts ? loss : 0.0f;
    }
}

extern "C" __global__ void __launch_bounds__(256) cross_entropy_warp(const float* logits, const int* labels, const float* count,
                                                                     float smoothing, float* losses, float* grad, u32 rows, u32 classes) {
    cross_entropy<WarpTeam>(logits, labels, count, smoothing, losses, grad, rows, classes);
}

extern "C" __global__ void __launch_bounds__(512) cross_entropy_block(const float* logits, const int* labels, const float* count,
                                                                      float smoothing, float* losses, float* grad, u32 rows, u32 classes) {
    cross_entropy<BlockTeam>(logits, labels, count, smoothing, losses, grad, rows, classes);
}

// Temperature and weights of the distillation loss, in device memory, so that a schedule can change them without another launch.
struct DistillationWeights {
    float temperature;
    float hard;
    float soft;
};

// Hinton, Vinyals & Dean 2015: hard · CE(softmax(s), y) + soft · T² · KL(softmax(t / T) ‖ softmax(s / T)), means over the rows.
// With q = softmax(s), q_T = softmax(s / T), p_T = softmax(t / T):  d/ds = hard · (q − y) + soft · T · (q_T − p_T).
template <class Team>
__device__ __forceinline__ void hinton_kd(const float* student, const float* teacher, const int* labels, const float* count,
                                          const DistillationWeights* weights, float* hard_losses, float* soft_losses, float* grad, u32 rows,
                                          u32 classes) {
    const float t = weights->temperature, hard_weight = weights->hard, soft_weight = weights->soft;
    const float hard_share = hard_weight / *count, soft_share = soft_weight * t / float(rows);
    for (u32 row = Team::row(); row < rows; row += Team::rows()) {
        const float* s = student + row * classes;
        const float* z = teacher + row * classes;
        SoftmaxState q = SoftmaxState::empty(), q_t = q, p_t = q;
        for (u32 i = Team::rank(); i < classes; i += Team::size()) {
            q.add(s[i]);
            q_t.add(s[i] / t);
            p_t.add(z[i] / t);
        }
        q = Team::merge(q);
        q_t = Team::merge(q_t);
        p_t = Team::merge(p_t);
        const float q_log_sum = q.log_sum(), q_t_log_sum = q_t.log_sum(), p_t_log_sum = p_t.log_sum();
        const int label = labels[row];
        const bool counts = label != IGNORE_INDEX;
        float divergence = 0.0f;
        for (u32 i = Team::rank(); i < classes; i += Team::size()) {
            const float log_q = (s[i] - q.max) - q_log_sum;
            // (s − max) / T, not s / T − max / T: large logits would cancel to noise.
            const float log_q_t = (s[i] - q.max) / t - q_t_log_sum;
            const float log_p_t = (z[i] / t - p_t.max) - p_t_log_sum;
            const float p = expf(log_p_t);
            if (p > 0.0f) divergence += p * (log_p_t - log_q_t);
            const float hit = int(i) == label ? 1.0f : 0.0f;
            const float d_hard = counts ? hard_share * (expf(log_q) - hit) : 0.0f;
            grad[row * classes + i] = d_hard + soft_share * (expf(log_q_t) - p);
        }
        divergence = Team::sum(divergence);
        if (Team::rank() == 0) {
            hard_losses[row] = counts ? -((s[label] - q.max) - q_log_sum) : 0.0f;
            soft_losses[row] = t * t * divergence;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
    hinton_kd_warp(const float* student, const float* teacher, const int* labels, const float* count, const DistillationWeights* weights,
                   float* hard_losses, float* soft_losses, float* grad, u32 rows, u32 classes) {
    hinton_kd<WarpTeam>(student, teacher, labels, count, weights, hard_losses, soft_losses, grad, rows, classes);
}

extern "C" __global__ void __launch_bounds__(512)
    hinton_kd_block(const float* student, const float* teacher, const int* labels, const float* count, const DistillationWeights* weights,
                    float* hard_losses, float* soft_losses, float* grad, u32 rows, u32 classes) {
    hinton_kd<BlockTeam>(student, teacher, labels, count, weights, hard_losses, soft_losses, grad, rows, classes);
}

// The sum of the rows' losses in double, each thread's rows in order and then the threads in a fixed tree.
__device__ __forceinline__ double total(const float* losses, u32 rows) {
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < rows; i += blockDim.x) sum += double(losses[i]);
    return block_reduce(sum, Add());
}

// One block: the mean over the samples that count.
extern "C" __global__ void __launch_bounds__(256) mean_losses(const float* losses, const float* count, float* mean, u32 rows) {
    const double sum = total(losses, rows);
    if (threadIdx.x == 0) *mean = float(sum / double(*count));
}

// One block: terms = [weighted sum, hard, soft]. A weight of 0 leaves its term out even where the term overflows.
extern "C" __global__ void __launch_bounds__(256) mean_distillation_losses(const float* hard_losses, const float* soft_losses,
                                                                           const float* count, const DistillationWeights* weights,
                                                                           float* all, float* hard, float* soft, u32 rows) {
    const double hard_mean = total(hard_losses, rows) / double(*count);
    const double soft_mean = total(soft_losses, rows) / double(rows);
    if (threadIdx.x == 0) {
        const double hard_term = weights->hard == 0.0f ? 0.0 : double(weights->hard) * hard_mean;
        const double soft_term = weights->soft == 0.0f ? 0.0 : double(weights->soft) * soft_mean;
        *all = float(hard_term + soft_term);
        *hard = float(hard_mean);
        *soft = float(soft_mean);
    }
}
