//! `analyze`: what explains a distillation. Layers, soft targets and attention of one teacher and its students; and studies that vary one
//! thing — the student's size, the teacher's training, wrong labels, the amount of data — with and without the teacher.

use super::compare::evaluate_teacher;
use super::session::{Session, StudentPlan, Teacher};
use super::sides::{Side, Sides};
use crate::analysis::{attention_pixels, class_similarity, features, similarities};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::models::{architecture, Model, ARCHITECTURES};
use crate::nn::Module;
use crate::report::{AccuracyTable, Captioned, Gallery, Heatmap, Picture};
use crate::suggest::nearest;
use crate::tensor::Rng;
use crate::train::streams;
use std::path::PathBuf;
use std::sync::Arc;

/// Test images whose features are compared: Gram matrices are that large.
const SAMPLES: usize = 500;
/// Test images whose attention is shown.
const SHOWN: usize = 4;
/// Shares of wrong labels.
const NOISE: [f64; 4] = [0.0, 0.2, 0.4, 0.6];
/// Shares of the students' images.
const FRACTIONS: [f64; 4] = [0.1, 0.25, 0.5, 1.0];

type Study = fn(&mut Session, &Teacher) -> Result<()>;

/// Everything that can be analysed.
const STUDIES: [(&str, Study); 7] = [
    ("layers", layers),
    ("classes", classes),
    ("attention", attention),
    ("capacity", capacity),
    ("teachers", teachers),
    ("noise", noise),
    ("fraction", fraction),
];

/// The studies that a list names; all of them for `all`.
///
/// # Errors
/// An unknown name.
pub(super) fn studies(list: &str) -> Result<Vec<(&'static str, Study)>> {
    let names = STUDIES.map(|(name, _)| name);
    let mut chosen = Vec::new();
    for name in list.split(',').map(str::trim) {
        match STUDIES.iter().find(|(known, _)| *known == name) {
            Some(study) => chosen.push(*study),
            None if name == "all" => chosen.extend(STUDIES),
            None => {
                let hint = nearest(name, &names).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
                let reason = format!("there is no `{name}`; {hint}known: all, {}", names.join(", "));
                return Err(Error::argument("studies", reason));
            }
        }
    }
    Ok(chosen)
}

/// Carries out the studies, one after the other; the report is written after each.
///
/// # Errors
/// A training fails or is interrupted.
pub(super) fn run(session: &mut Session, teacher: &Teacher) -> Result<PathBuf> {
    for (name, study) in studies(session.config.studies.as_deref().unwrap_or("all"))? {
        session.progress.stage(&format!("study: {name}"));
        study(session, teacher)?;
        session.write_report()?;
    }
    session.write_report()
}

/// The distilled student and the one on labels alone, as `compare` has them.
fn students(session: &mut Session, teacher: &Teacher) -> Result<[Model; 2]> {
    let plan = session.student_plan();
    let (alone, _) = session.student("baseline-1", plan.on_labels_alone(), teacher)?;
    let (distilled, _) = session.student("distilled-1", plan, teacher)?;
    Ok([alone, distilled])
}

fn layers(session: &mut Session, teacher: &Teacher) -> Result<()> {
    let students = students(session, teacher)?;
    let of = |model: &Model, side: &Side| features(model, &side.test, SAMPLES, session.device);
    let (taps, known) = (teacher.model.taps(), of(&teacher.model, &session.sides.teacher)?);
    let mut maps = Vec::new();
    for (name, student) in ["baseline", "distilled"].into_iter().zip(&students) {
        let (own, columns) = (of(student, &session.sides.student)?, student.taps());
        maps.push(Heatmap {
            name: format!("layers-{name}"),
            title: format!("Layers of the teacher (rows) and of the {name} student"),
            remark: "Linear centred kernel alignment (Kornblith et al. 2019): 1 where two layers tell the same test images apart in the \
                     same way, up to rotation and scale."
                .to_string(),
            rows: taps.iter().map(|tap| tap.to_string()).collect(),
            columns: columns.iter().map(|tap| tap.to_string()).collect(),
            values: similarities((&known, &taps), (&own, &columns))?,
        });
    }
    session.summary.heatmaps.extend(maps);
    Ok(())
}

fn classes(session: &mut Session, teacher: &Teacher) -> Result<()> {
    let (answers, temperature) = (evaluate_teacher(session, teacher)?, session.config.temperature.ends()[0]);
    let names = session.sides.student.test.classes.clone();
    session.summary.heatmaps.push(Heatmap {
        name: "classes".to_string(),
        title: format!("The teacher's mean answer (columns) to images of each class (rows), T = {temperature}"),
        remark: "What is off the diagonal is what the soft targets teach beyond the labels.".to_string(),
        rows: names.clone(),
        columns: names,
        values: class_similarity(&answers, temperature),
    });
    Ok(())
}

fn attention(session: &mut Session, teacher: &Teacher) -> Result<()> {
    let [alone, distilled] = students(session, teacher)?;
    let Sides { teacher: of_teacher, student: of_students, .. } = &session.sides;
    let mut pictures: Vec<Vec<Captioned>> = (0..SHOWN.min(of_students.test.len()))
        .map(|i| vec![Captioned { picture: Picture::of(&of_students.test, i), caption: "image".to_string() }])
        .collect();
    let networks = [
        ("teacher", &*teacher.model, of_teacher),
        ("distilled", &distilled, of_students),
        ("baseline", &alone, of_students),
    ];
    for (who, model, side) in networks {
        let known = features(model, &side.test, SHOWN, session.device)?;
        for tap in model.taps() {
            let Some(maps) = known.get(tap).filter(|maps| maps.shape().rank() == 4) else { continue };
            for (row, (size, pixels)) in pictures.iter_mut().zip(attention_pixels(maps)?) {
                let picture = Picture { size, channels: 1, pixels };
                row.push(Captioned { picture, caption: format!("{who} {tap}") });
            }
        }
    }
    session.summary.extras.galleries.push(Gallery {
        title: "Where the networks look".to_string(),
        about: "Attention maps, the sum of squared activations over channels: brightest where the network looks most."
            .to_string(),
        pictures: pictures.concat(),
    });
    Ok(())
}

/// Accuracy on labels alone and distilled, of students of one kind, with their gain.
fn pair(session: &mut Session, teacher: &Teacher, job: &str, table: &mut AccuracyTable, label: String) -> Result<()> {
    let plan = StudentPlan { epochs: session.config.sweep_epochs, ..session.student_plan() };
    let (_, alone) = session.student(&format!("{job}-baseline"), plan.on_labels_alone(), teacher)?;
    let (_, distilled) = session.student(&format!("{job}-distilled"), plan, teacher)?;
    table.row(label, &[alone.accuracy(), distilled.accuracy()]);
    Ok(())
}

const COLUMNS: [&str; 2] = ["labels alone", "distilled"];

/// One seed is what each row has; the report has to say so.
fn note(session: &mut Session, text: &str) {
    session
        .summary
        .extras
        .notes
        .push(format!("{text} One student each: differences below a point or so may be chance."));
}

fn capacity(session: &mut Session, teacher: &Teacher) -> Result<()> {
    let mut table = AccuracyTable::new("Capacity: students of several sizes", &COLUMNS);
    let own = session.config.clone();
    for info in ARCHITECTURES {
        let config = super::RunConfig { student_model: info.name.to_string(), ..own.clone() };
        if session.check(&config).is_err() {
            continue; // It takes larger images, or has not what the method compares.
        }
        let task = teacher.model.task();
        let parameters = Model::new(info.name, task, Rng::new(0, 0), session.device)?.parameter_count();
        let label = format!("{}, {} parameters", info.name, crate::report::thousands(parameters as f64));
        let job = format!("capacity-{}", info.name);
        session.with_config(&config, |session| pair(session, teacher, &job, &mut table, label))?;
    }
    session.summary.extras.tables.push(table);
    note(session, "Capacity: a student much smaller than its teacher may gain less, since it cannot follow (Cho & Hariharan 2019).");
    Ok(())
}

fn teachers(session: &mut Session, teacher: &Teacher) -> Result<()> {
    let mut table = AccuracyTable::new("Teachers: trained for several times", &["teacher", "distilled"]);
    architecture(&session.config.teacher_model)?;
    let whole = session.config.teacher_epochs;
    let mut epochs: Vec<usize> = (0..).map(|k| 1 << k).take_while(|&e| e < whole).collect();
    epochs.push(whole);
    if teacher.result.is_none() {
        let text = "Teachers: the teacher came from a file, so how long it is trained could not be varied.";
        session.summary.extras.notes.push(text.to_string());
        return Ok(());
    }
    for epochs in epochs {
        let taught = session.teacher_of(epochs, &format!("teacher-e{epochs}"))?;
        let plan = StudentPlan { epochs: session.config.sweep_epochs, ..session.student_plan() };
        let job = format!("taught-e{epochs}");
        let images = session.images();
        let (_, student) = session.with_images(images, |session| session.student(&job, plan, &taught))?;
        let accuracy = taught.result.as_ref().map_or(f64::NAN, |result| result.accuracy());
        table.row(format!("{epochs} epochs"), &[accuracy, student.accuracy()]);
    }
    session.summary.extras.tables.push(table);
    note(session, "Teachers: the best teacher need not be the one that was trained longest.");
    Ok(())
}

fn noise(session: &mut Session, teacher: &Teacher) -> Result<()> {
    let mut table = AccuracyTable::new("Label noise: students' labels replaced by random ones", &COLUMNS);
    for share in NOISE {
        let images = Arc::new(with_noise(&session.images(), share, session.config.seed));
        let job = format!("noise-{:.0}", 100.0 * share);
        let label = format!("{:.0} % of the labels", 100.0 * share);
        session.with_images(images, |session| pair(session, teacher, &job, &mut table, label))?;
    }
    session.summary.extras.tables.push(table);
    note(
        session,
        "Label noise: the teacher saw the right labels, and its answers do not depend on the students' wrong ones.",
    );
    Ok(())
}

fn fraction(session: &mut Session, teacher: &Teacher) -> Result<()> {
    let mut table = AccuracyTable::new("Data: students with a part of the images", &COLUMNS);
    for share in FRACTIONS {
        let all = session.images();
        let count = ((share * all.len() as f64).round() as usize).clamp(1, all.len());
        let job = format!("fraction-{:.0}", 100.0 * share);
        let images = Arc::new(all.limit(count, Rng::new(session.config.seed, streams::SUBSET))?);
        let label = format!("{} images", crate::report::thousands(count as f64));
        session.with_images(images, |session| pair(session, teacher, &job, &mut table, label))?;
    }
    session.summary.extras.tables.push(table);
    note(session, "Data: all students have as many epochs, so those with fewer images also have fewer steps.");
    Ok(())
}

/// The same images, a share of whose labels are drawn anew; a new label may be the old one.
fn with_noise(images: &Dataset, share: f64, seed: u64) -> Dataset {
    let mut noisy = images.clone();
    let mut random = Rng::new(seed, streams::NOISE).sequence();
    let wrong = (share * images.len() as f64).round() as usize;
    for i in random.permutation(images.len()).into_iter().take(wrong) {
        noisy.labels[i as usize] = random.below(images.classes.len() as u32) as i32;
    }
    noisy
}
