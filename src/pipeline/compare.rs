//! Teacher, distilled students, baseline students: how good, how fast, how large, and whether the difference is more than chance.

use super::session::{Session, Teacher};
use super::Stages;
use crate::compress::{sparsity, Compression};
use crate::error::{Error, Result};
use crate::models::{summarise, Model};
use crate::nn::Module;
use crate::report::{
    mcnemar, mean, paired_t_test, standard_deviation, verdict, ChangedSample, Comparison, LossPoint, ModelResult,
    Picture, Role,
};
use crate::train::{evaluate, measure, Evaluation, JobResult};
use std::fs;
use std::path::Path;

/// Pictures of changed answers in the report, of each kind.
const CHANGED_SHOWN: usize = 12;

/// Trains what the stages ask for and puts it into the summary, side by side.
pub(super) fn compare(session: &mut Session, teacher: &Teacher, stages: Stages) -> Result<()> {
    let judge = evaluate_teacher(session, teacher)?;
    let result =
        describe_model(session, Role::Teacher, &teacher.model, teacher.result.as_ref(), &teacher.file, &judge, &judge)?;
    session.summary.models = vec![result];
    super::soft_targets::show(session, &judge);
    let (mut distilled, mut baseline) = (Vec::new(), Vec::new());
    let mut first: Vec<Evaluation> = Vec::new();
    for number in 1..=session.config.seeds {
        let mut plan = session.student_plan();
        plan.seed += number as u64 - 1;
        let students = [
            (stages.distil, Role::Distilled, plan.clone(), &mut distilled),
            (stages.baseline, Role::Baseline, plan.on_labels_alone(), &mut baseline),
        ];
        for (wanted, role, plan, accuracies) in students {
            if !wanted {
                continue;
            }
            let job = format!("{}-{number}", role.name());
            let (model, result) = session.student(&job, plan, teacher)?;
            accuracies.push(result.accuracy());
            if number == 1 {
                let evaluation = evaluate_student(session, &model)?;
                let file = session.run.model_path(&job);
                let row = describe_model(session, role, &model, Some(&result), &file, &evaluation, &judge)?;
                session.summary.models.push(row);
                first.push(evaluation);
            }
        }
    }
    if stages.distil {
        session.summary.distillation = loss_points(session, "distilled-1")?;
    }
    if let [distilled_1, baseline_1] = &first[..] {
        session.summary.comparison = Some(judge_difference(distilled, baseline, distilled_1, baseline_1));
        show_changes(session, distilled_1, baseline_1, &judge);
    }
    Ok(())
}

/// What the teacher says about its view of the test images, in the student's classes.
pub(super) fn evaluate_teacher(session: &Session, teacher: &Teacher) -> Result<Evaluation> {
    let Session { sides, config, device, .. } = session;
    Ok(evaluate(&teacher.model, &sides.teacher.test, config.eval_batch_size, *device)?.grouped(&sides.mapping))
}

/// What a student says about its view of the test images.
pub(super) fn evaluate_student(session: &Session, student: &Model) -> Result<Evaluation> {
    evaluate(student, &session.sides.student.test, session.config.eval_batch_size, session.device)
}

pub(super) fn describe_model(
    session: &mut Session,
    role: Role,
    model: &Model,
    result: Option<&JobResult>,
    file: &Path,
    evaluation: &Evaluation,
    teacher: &Evaluation,
) -> Result<ModelResult> {
    session.progress.stage(&format!("measuring the {}", role.name()));
    let cost = measure(model, session.device)?;
    let compression = if role == Role::Teacher { Compression::default() } else { session.config.compression()? };
    let sparsity = compression.pruning.map(|_| Ok::<_, Error>(100.0 * sparsity(model)?)).transpose()?;
    let file_bytes = fs::metadata(file).map_err(|e| Error::io("read", file, e))?.len();
    Ok(ModelResult {
        role,
        architecture: model.name().to_string(),
        parameters: model.parameter_count(),
        mflops: summarise(model)?.flops / 1e6,
        accuracy: evaluation.accuracy(),
        history: result.map_or(Vec::new(), |r| r.history.iter().map(|epoch| epoch.test_accuracy).collect()),
        latency_b1_ms: [cost.single.median_ms, cost.single.p95_ms],
        latency_b128_ms: [cost.batch.median_ms, cost.batch.p95_ms],
        images_per_second: cost.throughput,
        parameter_bytes: cost.parameter_bytes,
        peak_activation_bytes: cost.peak_activation_bytes,
        packed_bytes: compression.quantization.map(|quantization| quantization.packed_bytes(model)),
        sparsity,
        file_bytes,
        agreement: evaluation.agreement(teacher),
        calibration_error: evaluation.calibration_error(),
        confusion: evaluation.confusion(),
    })
}

fn loss_points(session: &mut Session, job: &str) -> Result<Vec<LossPoint>> {
    let steps = session.steps(job)?.into_iter();
    Ok(steps.map(|s| LossPoint { step: s.step, total: s.loss, terms: s.terms }).collect())
}

/// With several seeds, a paired t-test over them; where there is none, McNemar's exact test over the test images.
fn judge_difference(
    distilled: Vec<f64>,
    baseline: Vec<f64>,
    distilled_1: &Evaluation,
    baseline_1: &Evaluation,
) -> Comparison {
    let differences: Vec<f64> = distilled.iter().zip(&baseline).map(|(d, b)| d - b).collect();
    let (test, p_value) = match paired_t_test(&differences) {
        Some(p) => (format!("paired t-test over {} seeds", differences.len()), p),
        None => {
            let only =
                |a: &Evaluation, b: &Evaluation| a.correct().zip(b.correct()).filter(|(a, b)| *a && !*b).count() as u64;
            let p = mcnemar(only(distilled_1, baseline_1), only(baseline_1, distilled_1));
            ("McNemar's exact test over the test images, first seed alone".to_string(), p)
        }
    };
    let gain = mean(&differences);
    let verdict = verdict(gain, p_value, differences.len());
    Comparison { gain_sd: standard_deviation(&differences), distilled, baseline, gain, p_value, test, verdict }
}

/// Test images on which the two students differ: where the answer changed for the better, and for the worse.
fn show_changes(session: &mut Session, distilled: &Evaluation, baseline: &Evaluation, teacher: &Evaluation) {
    let confidence = |e: &Evaluation, i: usize| e.probabilities(i, 1.0)[e.labels[i]];
    let mut changed: Vec<(f64, usize)> = (0..distilled.labels.len())
        .filter(|&i| {
            (distilled.predictions[i] == distilled.labels[i]) != (baseline.predictions[i] == baseline.labels[i])
        })
        .map(|i| (confidence(distilled, i) - confidence(baseline, i), i))
        .collect();
    changed.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()).then(a.1.cmp(&b.1)));
    let sample = |i: usize| ChangedSample {
        picture: Picture::of(&session.sides.student.test, i),
        index: i,
        label: distilled.labels[i],
        baseline: baseline.predictions[i],
        distilled: distilled.predictions[i],
        teacher: teacher.predictions[i],
    };
    let right = |&&(_, i): &&(f64, usize)| distilled.predictions[i] == distilled.labels[i];
    let improved: Vec<_> = changed.iter().filter(right).take(CHANGED_SHOWN).map(|(_, i)| sample(*i)).collect();
    let hurt = changed.iter().filter(|c| !right(c)).take(CHANGED_SHOWN).map(|(_, i)| sample(*i)).collect();
    (session.summary.improved, session.summary.hurt) = (improved, hurt);
}
