// The distillation loss with its gradient, in one kernel: softmaxes, divergence and cross-entropy. A team of threads takes a row, gathers the
// statistics of all three softmaxes in one online pass (softmax.cuh), and in further passes over the row adds up the divergence and writes the
// gradient. Each logit is read from memory once and each gradient written once, 12 bytes a class in f32 and 6 in bf16, as long as the later passes find
// the row elsewhere: in the second-level cache, where the rows at work fit there, or, of very long rows, in the registers of several blocks
// (distillation_cluster.cu). Logits are f32 or bf16; all arithmetic is f32.
#pragma once
#include "softmax.cuh"

// What the distillation loss is told, in device memory, so that a schedule can change it without another launch.
struct DistillationSettings {
    float temperature;
    float hard_weight;
    float soft_weight;
    float beta;
};

// Divergences between the teacher's p and the student's q: what a class adds to the sum, given δ = log p − log q, and q times the derivative of
// the sum with respect to q (up to a multiple of q, which the softmax's own gradient removes). Where q is 0, δ may be anything.

// KL(p ‖ q), as p · (e^−δ − 1 + δ): the same sum, since Σp = Σq, but without negative terms, so that it keeps its digits when T is large
// and every δ is tiny. Its gradient needs no derivative: it is q − p.
struct ForwardKl {
    static constexpr bool needs_centre = false;
    __device__ __forceinline__ static float term(float p, float q, float delta, float) {
        if (delta * delta < 0.0625f) {
            const float series =
                0.5f - delta * (1.0f / 6 - delta * (1.0f / 24 - delta * (1.0f / 120 - delta * (1.0f / 720 - delta * (1.0f / 5040)))));
            return p * delta * delta * series;
        }
        return p > 0.0f ? q - p + p * delta : q;
    }
    __device__ __forceinline__ static float slope(float, float, float) { return 0.0f; }
};

// KL(q ‖ p).
struct ReverseKl {
    static constexpr bool needs_centre = true;
    __device__ __forceinline__ static float term(float p, float q, float delta, float) { return ForwardKl::term(q, p, -delta, 0.0f); }
    __device__ __forceinline__ static float slope(float q, float delta, float) { return q > 0.0f ? -q * delta : 0.0f; }
};

// β · KL(p ‖ m) + (1 − β) · KL(q ‖ m) with m = β · p + (1 − β) · q (Agarwal et al. 2024).
struct JensenShannon {
    static constexpr bool needs_centre = true;
    // log p − log m and log q − log m, from δ alone, whose exponential is taken of the side that does not overflow.
    struct Logs {
        float p, q;
    };
    __device__ __forceinline__ static Logs logs(float delta, float beta) {
        if (delta > 0.0f) {
            const float p = -logf(beta + (1.0f - beta) * expf(-delta));
            return {p, p - delta};
        }
        const float q = -log1pf(beta * (expf(delta) - 1.0f));
        return {q + delta, q};
    }
    // A term of weight 0 is left out: its logarithm may be infinite.
    __device__ __forceinline__ static float term(float p, float q, float delta, float beta) {
        const float m = beta * p + (1.0f - beta) * q;
        const Logs log = logs(delta, beta);
        const float of_p = beta > 0.0f ? beta * ForwardKl::term(p, m, log.p, 0.0f) : 0.0f;
        return beta < 1.0f ? of_p + (1.0f - beta) * ForwardKl::term(q, m, log.q, 0.0f) : of_p;
    }
    __device__ __forceinline__ static float slope(float q, float delta, float beta) {
        return q > 0.0f && beta < 1.0f ? (1.0f - beta) * q * logs(delta, beta).q : 0.0f;
    }
};

// A thread's fours of a row of both models. The first KEPT of them are read once and stay in registers, the others are read again by each pass.
template <int KEPT, class Logit, class Way>
struct RowOfBoth {
    const Logit* student;
    const Logit* teacher;
    const Way& walk;
    Four<Logit> of_student[KEPT == 0 ? 1 : KEPT], of_teacher[KEPT == 0 ? 1 : KEPT];

    __device__ __forceinline__ RowOfBoth(const Logit* student_, const Logit* teacher_, const Way& walk_)
        : student(student_), teacher(teacher_), walk(walk_) {
#pragma unroll
        for (int k = 0; k < KEPT; ++k) {
            const u32 i = walk.first + k * walk.step();
            if (i < walk.end) {
                of_student[k] = walk.fetch(student, i, walk.there(i));
                of_teacher[k] = walk.fetch(teacher, i, walk.there(i));
            }
        }
    }

    // Calls pass(first class, which of the four exist, student's logits, teacher's).
    template <class Pass>
    __device__ __forceinline__ void each(Pass pass) const {
        const auto four = [&](u32 i, const Four<Logit>& own, const Four<Logit>& other) {
            float s[4], t[4];
            unpack(own, s);
            unpack(other, t);
            pass(i, walk.there(i), s, t);
        };
#pragma unroll
        for (int k = 0; k < KEPT; ++k) {
            const u32 i = walk.first + k * walk.step();
            if (i < walk.end) four(i, of_student[k], of_teacher[k]);
        }
        for (u32 i = walk.first + KEPT * walk.step(); i < walk.end; i += walk.step())
            four(i, walk.fetch(student, i, walk.there(i)), walk.fetch(teacher, i, walk.there(i)));
    }
};

// Classes `from` to `to` of a row.
struct Stretch {
    u32 from, to;
};

// hard_weight · CE(softmax(s), y) + soft_weight · scale · D(softmax(t / T), softmax(s / T)), means over the rows (Hinton, Vinyals & Dean
// 2015 for D = KL and scale = T²). With q = softmax(s / T) and the derivative g of D with respect to q, the soft term's gradient is
// soft_weight · scale / T · q · (g − Σ q·g); for KL that is soft_weight · scale / T · (q − p). A team has one part of a row or all of it; each
// part leaves its share of the soft loss. What is kept in registers comes in whole fours.
template <class Divergence, int KEPT, class Logit, class Team>
__device__ __forceinline__ void distillation(Team team, const Logit* student, const Logit* teacher, const int* labels,
                                             const float* sample_weights, const float* totals, const DistillationSettings* settings,
                                             int scale_by_t2, float* hard_losses, float* soft_losses, Logit* grad, u32 rows, u32 classes) {
    const float t = settings->temperature, inverse = 1.0f / t, beta = settings->beta, scale = scale_by_t2 ? t * t : 1.0f;
    using Way = Walk<Team, (KEPT > 0)>;
    const auto [from, to] = Team::stretch(classes);
    const Way walk(classes, from, to);
    for (u32 row = Team::row(); row < rows; row += Team::rows()) {
        const u32 start = row * classes;
        const RowOfBoth<KEPT, Logit, Way> of_both(student + start, teacher + start, walk);
        if (row + Team::rows() < rows) {
            const u32 next = start + Team::rows() * classes;
            Team::fetch_ahead(student + next + from, student + next + to);
            Team::fetch_ahead(teacher + next + from, teacher + next + to);
        }
        SoftmaxState hard = SoftmaxState::empty(), soft = hard, guide = hard;
        of_both.each([&](u32, const There& there, const float (&own)[4], const float (&other)[4]) {
            hard.add(own, there, 1.0f);
            soft.add(own, there, inverse);
            guide.add(other, there, inverse);
        });
        team.merge(hard, soft, guide, inverse);
        const Softmax of_hard(hard, 1.0f), of_student(soft, inverse), of_teacher(guide, inverse);
        // log p − log q = ((t − max t) − (s − max s)) / T + shift.
        const float shift = soft.log_sum() - guide.log_sum();
        const int label = labels ? labels[row] : IGNORE_INDEX;
        const bool counts = label != IGNORE_INDEX;
        const float weight = sample_weights ? sample_weights[row] : 1.0f;
        const float hard_share = counts ? settings->hard_weight * weight / labelled_weight(totals, rows) : 0.0f;
        const float soft_share = settings->soft_weight * weight * scale * inverse / whole_weight(totals, rows);

        // The gradient of class i, whose soft part is soft_share · d.
        const auto gradient = [&](u32 i, float own, float d) {
            const float hit = int(i) == label ? 1.0f : 0.0f;
            return hard_share * (of_hard(own) - hit) + soft_share * d;
        };
        const auto difference = [&](float own, float other) { return ((other - guide.max) - (own - soft.max)) * inverse + shift; };
        float divergence = 0.0f, centre = 0.0f;
        of_both.each([&](u32 i, const There& there, const float (&own)[4], const float (&other)[4]) {
            float slopes[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float q = of_student(own[j]), p = of_teacher(other[j]), delta = difference(own[j], other[j]);
                if (there.of[j]) {
                    divergence += Divergence::term(p, q, delta, beta);
                    centre += Divergence::slope(q, delta, beta);
                }
                slopes[j] = gradient(i + j * walk.stride, own[j], q - p);
            }
            if (!Divergence::needs_centre) walk.store(grad + start, i, there, slopes);
        });
        if (Divergence::needs_centre) {
            centre = team.sum(centre);
            of_both.each([&](u32 i, const There& there, const float (&own)[4], const float (&other)[4]) {
                float slopes[4];
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    const float q = of_student(own[j]), slope = Divergence::slope(q, difference(own[j], other[j]), beta);
                    slopes[j] = gradient(i + j * walk.stride, own[j], slope - q * centre);
                }
                walk.store(grad + start, i, there, slopes);
            });
        }
        divergence = Team::sum_of_part(divergence);
        if (Team::rank() == 0) {
            soft_losses[row * Team::PARTS + Team::part()] = weight * scale * divergence;
            if (Team::part() == 0)
                hard_losses[row] = counts ? -weight * hard.log_softmax(logit(student[start + label]), 1.0f, hard.log_sum()) : 0.0f;
        }
    }
}

// A row by one team: what distillation() asks of it.
template <class Threads>
struct WholeRow : Threads {
    static constexpr u32 PARTS = 1;
    __device__ __forceinline__ static u32 part() { return 0; }
    __device__ __forceinline__ static Stretch stretch(u32 classes) { return {0, classes}; }
    __device__ __forceinline__ static void fetch_ahead(const void*, const void*) {}
    __device__ __forceinline__ static void merge(SoftmaxState& hard, SoftmaxState& soft, SoftmaxState& guide, float inverse) {
        hard = Threads::merge(hard, 1.0f);
        soft = Threads::merge(soft, inverse);
        guide = Threads::merge(guide, inverse);
    }
    __device__ __forceinline__ static float sum_of_part(float value) { return Threads::sum(value); }
};

// What a kernel of this loss takes, and hands on.
#define DISTILLATION_PARAMETERS(LOGIT)                                                                                        \
    const LOGIT *student, const LOGIT *teacher, const int *labels, const float *sample_weights, const float *totals,          \
        const DistillationSettings *settings, int scale_by_t2, float *hard_losses, float *soft_losses, LOGIT *grad, u32 rows, \
        u32 classes
#define DISTILLATION_ARGUMENTS \
    student, teacher, labels, sample_weights, totals, settings, scale_by_t2, hard_losses, soft_losses, grad, rows, classes
