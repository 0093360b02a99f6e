//! What every method of the registry promises, whatever it is made of.

use kdengine::distill::{
    find_method, Features, MethodInfo, Mixture, Networks, Objective, Plan, Settings, StepInputs, Term, Value, METHODS,
};
use kdengine::models::{tap_shapes, TapShape, Task};
use kdengine::nn::PRE_ACTIVATION;
use kdengine::optim::{Optimizer, OptimizerConfig};
use kdengine::tensor::Rng;
use kdengine::{DType, Device, Result, Tensor};
use std::collections::BTreeMap;

/// Samples in the training set that the batches are taken from.
const SAMPLES: usize = 40;

/// What two networks say about a batch.
#[derive(Clone)]
struct Batch {
    student_logits: Tensor,
    teacher_logits: Tensor,
    student: Features,
    teacher: Features,
    labels: Vec<i32>,
    samples: Vec<u32>,
}

/// Two networks for images of 8×8 pixels, of equal widths where a method needs that.
fn shapes(info: &MethodInfo, classes: usize) -> [Vec<TapShape>; 2] {
    let task = Task { input: [1, 8, 8], classes };
    let teacher = if info.needs.equal_widths { "student_net" } else { "teacher_net" };
    ["student_net", teacher].map(|name| tap_shapes(name, task).unwrap())
}

fn training_labels(classes: usize) -> Vec<i32> {
    (0..SAMPLES).map(|i| (i % classes) as i32).collect()
}

impl Batch {
    /// Normal features and logits; those of the student and of the teacher are unrelated.
    fn random(shapes: &[Vec<TapShape>; 2], n: usize, classes: usize) -> Batch {
        let normal = |dims: &[usize], stream: u64| {
            let dims: Vec<usize> = [&[n], dims].concat();
            Tensor::normal(kdengine::Shape::new(&dims).unwrap(), 0.0, 1.0, DType::F32, Device::Cpu, Rng::new(7, stream))
                .unwrap()
        };
        let features = |shapes: &[TapShape], stream: u64| {
            let maps = shapes.iter().zip(stream..).flat_map(|(tap, stream)| {
                let names = [tap.name.clone(), format!("{}{PRE_ACTIVATION}", tap.name)];
                names.map(|name| (name, normal(&tap.shape, stream)))
            });
            maps.collect()
        };
        Batch {
            student_logits: normal(&[classes], 1),
            teacher_logits: normal(&[classes], 2),
            student: features(&shapes[0], 100),
            teacher: features(&shapes[1], 200),
            labels: (0..n).map(|i| (i % classes) as i32).collect(),
            samples: (0..n as u32).collect(),
        }
    }

    /// Every tensor changed.
    fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Batch {
        let features = |maps: &Features| maps.iter().map(|(name, x)| (name.clone(), f(x))).collect();
        Batch {
            student_logits: f(&self.student_logits),
            teacher_logits: f(&self.teacher_logits),
            student: features(&self.student),
            teacher: features(&self.teacher),
            ..self.clone()
        }
    }

    /// Samples in another order.
    fn permuted(&self, order: &[i32]) -> Batch {
        let index = Tensor::from_slice(order, [order.len()], Device::Cpu).unwrap();
        Batch {
            labels: order.iter().map(|&i| self.labels[i as usize]).collect(),
            samples: order.iter().map(|&i| self.samples[i as usize]).collect(),
            ..self.map(|x| x.gather_rows(&index).unwrap())
        }
    }

    fn loss(&self, objective: &Objective) -> Result<kdengine::distill::Loss> {
        let labels = Tensor::from_slice(&self.labels, [self.labels.len()], Device::Cpu)?;
        objective.loss(&self.inputs(&labels), None)
    }

    fn inputs<'a>(&'a self, labels: &'a Tensor) -> StepInputs<'a> {
        StepInputs {
            student_features: &self.student,
            teacher_features: &self.teacher,
            samples: &self.samples,
            epoch: 50,
            rng: Rng::new(3, 3),
            ..StepInputs::of_logits(&self.student_logits, Some(&self.teacher_logits), labels)
        }
    }
}

/// A method at its defaults, beside the others even if it would come before them.
fn joint(info: &'static MethodInfo) -> Term {
    let values = match info.hyperparameters.iter().any(|parameter| parameter.name == "stages") {
        true => BTreeMap::from([("stages".to_string(), Value::Text("joint".to_string()))]),
        false => BTreeMap::new(),
    };
    Term { settings: Settings::new(info, &values).unwrap(), ..Term::new(info) }
}

/// The method alone, without the labels beside it, for two networks.
fn alone(term: Term, shapes: &[Vec<TapShape>; 2], classes: usize) -> Result<Objective> {
    let plan = Plan::new(0.0, vec![Term { weight: 1.0.into(), ..term }])?;
    let labels = training_labels(classes);
    let networks = Networks { student: &shapes[0], teacher: &shapes[1], classes, labels: &labels, mixed: false };
    Objective::new(&plan, &networks, Rng::new(1, 1), Device::Cpu)
}

/// Every method but the baseline, which has no term of its own.
fn methods() -> impl Iterator<Item = &'static MethodInfo> {
    METHODS.iter().copied().filter(|info| info.name != "hard-labels")
}

/// A term with some of its hyperparameters changed.
fn with(info: &'static MethodInfo, settings: &[(&str, f64)]) -> Term {
    let values = settings.iter().map(|(name, value)| (name.to_string(), Value::Number(*value)));
    let values: BTreeMap<String, Value> = values.collect();
    Term { settings: Settings::new(info, &values).unwrap(), ..Term::new(info) }
}

#[test]
fn degenerate_batches_give_finite_losses_and_gradients_or_a_clear_refusal() {
    type Change = fn(Batch) -> Batch;
    let cases: [(&str, usize, usize, Change); 6] = [
        ("one sample", 1, 4, |batch| batch),
        ("two classes", 5, 2, |batch| batch),
        ("one class", 5, 1, |batch| batch),
        ("zero features", 5, 4, |batch| batch.map(|x| x.affine(0.0, 0.0).unwrap())),
        ("equal features", 5, 4, |batch| batch.permuted(&[2, 2, 2, 2, 2])),
        ("huge features", 5, 4, |batch| batch.map(|x| x.affine(1e3, 0.0).unwrap())),
    ];
    for info in methods() {
        for (what, n, classes, change) in cases {
            let shapes = shapes(info, classes);
            let batch = change(Batch::random(&shapes, n, classes)).map(|x| x.variable());
            let loss = alone(joint(info), &shapes, classes).and_then(|objective| batch.loss(&objective));
            let loss = match loss {
                Ok(loss) => loss,
                Err(error) => {
                    assert_eq!((info.name, what), ("crd", "one class"), "{}: {what}: {error}", info.name);
                    assert!(error.to_string().contains("no wrong partner"), "{error}");
                    continue;
                }
            };
            assert!(loss.total.is_finite().unwrap(), "{}: {what}: {:?}", info.name, loss.total);
            let gradients = loss.total.backward().unwrap();
            for x in batch.student.values().chain([&batch.student_logits]) {
                let finite = gradients.get(x).is_none_or(|gradient| gradient.is_finite().unwrap());
                assert!(finite, "{}: {what}: a gradient is not finite", info.name);
            }
        }
    }
}

#[test]
fn the_teacher_gets_no_gradient_and_the_student_and_all_adapters_do() {
    for info in methods() {
        let shapes = shapes(info, 4);
        let batch = Batch::random(&shapes, 6, 4).map(|x| x.variable());
        let objective = alone(joint(info), &shapes, 4).unwrap();
        let gradients = batch.loss(&objective).unwrap().total.backward().unwrap();
        for x in batch.teacher.values().chain([&batch.teacher_logits]) {
            assert!(gradients.get(x).is_none(), "{}: a gradient reaches the teacher", info.name);
        }
        let reached = batch.student.values().chain([&batch.student_logits]).any(|x| gradients.get(x).is_some());
        assert!(reached, "{}: no gradient reaches the student", info.name);
        for (name, parameter) in objective.parameters() {
            assert!(gradients.get(&parameter.get()).is_some(), "{}: {name} gets no gradient", info.name);
        }
    }
}

#[test]
fn the_order_of_samples_in_a_batch_changes_nothing() {
    let order = [3, 0, 5, 1, 4, 2];
    for info in methods() {
        let shapes = shapes(info, 4);
        let batch = Batch::random(&shapes, 6, 4);
        let value = |batch: &Batch| {
            let objective = alone(joint(info), &shapes, 4).unwrap();
            let batch = batch.map(|x| x.variable());
            let loss = batch.loss(&objective).unwrap().total;
            let gradients = loss.backward().unwrap();
            let of = |x: &Tensor| gradients.get(x).cloned();
            (loss.item().unwrap(), batch.student.values().chain([&batch.student_logits]).map(of).collect::<Vec<_>>())
        };
        let ((plain, gradients), (moved, moved_gradients)) = (value(&batch), value(&batch.permuted(&order)));
        assert!((plain - moved).abs() <= 1e-4 * (1e-3 + plain.abs()), "{}: {plain} and {moved}", info.name);
        let index = Tensor::from_slice(&order, [6], Device::Cpu).unwrap();
        for (a, b) in gradients.iter().zip(&moved_gradients) {
            let (Some(a), Some(b)) = (a, b) else { continue };
            let (a, b) = (a.gather_rows(&index).unwrap().to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
            let scale = a.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            let apart = a.iter().zip(&b).fold(0.0, |m: f64, (x, y)| m.max((x - y).abs()));
            assert!(apart <= 1e-3 * scale + 1e-9, "{}: gradients differ by {apart} of {scale}", info.name);
        }
    }
}

#[test]
fn a_student_that_equals_its_teacher_loses_nothing_and_no_loss_is_negative() {
    // Methods with trained adapters compare through them, and so are not 0; likelihoods and entropies may be negative.
    let exact = "hinton logit-mse dkd dist logit-standardization reverse-kl jsd at nst fsp sp rkd cc pkt irg";
    let exact: Vec<&str> = exact.split(' ').collect();
    let signed = ["vid", "layerwise"];
    for info in methods() {
        let mut shapes = shapes(info, 4);
        let objective = alone(joint(info), &shapes, 4).unwrap();
        let value = Batch::random(&shapes, 6, 4).loss(&objective).unwrap().total.item().unwrap();
        assert!(value > -1e-6 || signed.contains(&info.name), "{}: {value}", info.name);
        if exact.contains(&info.name) {
            shapes[1] = shapes[0].clone();
            let batch = Batch::random(&shapes, 6, 4);
            let same =
                Batch { teacher_logits: batch.student_logits.clone(), teacher: batch.student.clone(), ..batch.clone() };
            let objective = alone(joint(info), &shapes, 4).unwrap();
            let zero = same.loss(&objective).unwrap().total.item().unwrap();
            assert!(zero.abs() < 1e-4 * value.abs().max(0.1), "{}: {zero}, random {value}", info.name);
        }
    }
}

#[test]
fn t_squared_is_part_of_the_loss_at_every_weight() {
    // With T² the loss has a limit as T grows; without it, it would fall by four with each doubling.
    let cases = [
        ("hinton", vec![]),
        ("dkd", vec![]),
        ("logit-standardization", vec![]),
        ("reverse-kl", vec![]),
        ("deit-soft", vec![]),
    ];
    for (name, others) in cases {
        let info = find_method(name).unwrap();
        let shapes = shapes(info, 4);
        let batch = Batch::random(&shapes, 6, 4);
        for weight in [0.1, 0.5, 1.0, 9.0] {
            let at = |temperature: f64| {
                let settings: Vec<(&str, f64)> = others.iter().copied().chain([("temperature", temperature)]).collect();
                let plan = Plan::new(0.0, vec![Term { weight: weight.into(), ..with(info, &settings) }]).unwrap();
                let labels = training_labels(4);
                let networks =
                    Networks { student: &shapes[0], teacher: &shapes[1], classes: 4, labels: &labels, mixed: false };
                let objective = Objective::new(&plan, &networks, Rng::new(1, 1), Device::Cpu).unwrap();
                batch.loss(&objective).unwrap().total.item().unwrap() / weight
            };
            let (warm, warmer) = (at(20.0), at(40.0));
            assert!((warm / warmer - 1.0).abs() < 0.1, "{name} at weight {weight}: {warm} at T 20, {warmer} at T 40");
        }
    }
}

#[test]
fn adapters_are_trained_and_what_they_learned_can_be_saved_and_loaded() {
    for info in methods() {
        let shapes = shapes(info, 4);
        let batch = Batch::random(&shapes, 6, 4);
        let objective = alone(joint(info), &shapes, 4).unwrap();
        let parameters = objective.parameters();
        let before: Vec<Vec<f64>> = parameters.iter().map(|(_, p)| p.get().to_f64_vec().unwrap()).collect();
        let mut adam = Optimizer::new(OptimizerConfig::named("adam", 0.9, 0.0).unwrap());
        let mut step = || {
            let loss = batch.loss(&objective).unwrap();
            if !parameters.is_empty() {
                adam.step(&parameters, &loss.total.backward().unwrap(), 1e-2).unwrap();
            }
            objective.after_step().unwrap();
            loss.total.item().unwrap()
        };
        let losses = [(); 3].map(|()| step());
        assert!(losses.iter().all(|loss| loss.is_finite()), "{}: {losses:?}", info.name);
        for ((name, parameter), before) in parameters.iter().zip(&before) {
            assert_ne!(&parameter.get().to_f64_vec().unwrap(), before, "{}: {name} did not change", info.name);
        }
        let state = objective.state();
        assert!(state.len() >= objective.cells().len(), "{}", info.name);
        let again = alone(joint(info), &shapes, 4).unwrap();
        again.load_state(&state).unwrap();
        let value = |objective: &Objective| batch.loss(objective).unwrap().total.item().unwrap();
        assert_eq!(value(&objective).to_bits(), value(&again).to_bits(), "{}", info.name);
        if !state.is_empty() {
            let error = again.load_state(&BTreeMap::new()).unwrap_err().to_string();
            assert!(error.contains("is missing"), "{error}");
        }
    }
}

#[test]
fn ab_and_ofd_compare_what_comes_before_a_relu_unless_told_otherwise() {
    for name in ["ab", "ofd"] {
        let info = find_method(name).unwrap();
        let shapes = shapes(info, 4);
        let plan = Plan::new(1.0, vec![Term::new(info)]).unwrap();
        assert_eq!(plan.teacher_taps(&shapes[0], &shapes[1]).unwrap(), ["block1.pre", "block2.pre"], "{name}");
        let named = |taps: [&str; 2]| taps.map(str::to_string).to_vec();
        let taps = (named(["block1", "block2.pre"]), named(["block1.pre", "block3"]));
        let objective = alone(Term { student_taps: taps.0, teacher_taps: taps.1, ..joint(info) }, &shapes, 4).unwrap();
        assert_eq!(objective.student_taps(), ["block1", "block2.pre"], "{name}");
        let loss = Batch::random(&shapes, 6, 4).loss(&objective).unwrap();
        assert!(loss.total.is_finite().unwrap(), "{name}");
    }
}

#[test]
fn the_released_form_of_cc_compares_neighbours_in_the_batch() {
    let info = find_method("cc").unwrap();
    let rows = |values: &[f64]| Tensor::from_slice(values, [values.len() / 2, 2], Device::Reference).unwrap();
    let (student, teacher) = (rows(&[1.0, 2.0, 0.0, 5.0, -1.0, 1.0]), rows(&[0.0, 0.0, 2.0, 4.0, 1.0, 1.0]));
    let value = |s: &Tensor, t: &Tensor| kdengine::distill::cc::neighbours(s, t).unwrap().item().unwrap();
    // |Δ| is (1, 2), (2, 1) and (2, 0): products of neighbours 4 and 4.
    assert_eq!(value(&student, &teacher), 4.0);
    assert_eq!(value(&rows(&[1.0, 2.0]), &rows(&[0.0, 0.0])), 0.0, "a single sample has no neighbour");
    let values = BTreeMap::from([("form".to_string(), Value::Text("released".to_string()))]);
    let term = || Term { settings: Settings::new(info, &values).unwrap(), ..Term::new(info) };
    for n in [1, 6] {
        let shapes = shapes(info, 4);
        let objective = alone(term(), &shapes, 4).unwrap();
        let loss = Batch::random(&shapes, n, 4).loss(&objective).unwrap();
        assert!(loss.total.is_finite().unwrap() && objective.parameters().len() == 4, "{n} samples");
    }
}

#[test]
fn irg_compares_how_far_each_sample_goes_between_layers() {
    let map = |values: &[f64], shape: [usize; 4]| Tensor::from_slice(values, shape, Device::Reference).unwrap();
    // Two samples: averaged over pixels and pairs of channels the first map is (1, 2) and (0, 5); the second is (2, 1) and (0, 1).
    let low = map(&[0.0, 2.0, 1.0, 1.0, 2.0, 2.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0], [2, 4, 1, 2]);
    let high = map(&[2.0, 1.0, 0.0, 1.0], [2, 2, 1, 1]);
    let found = kdengine::distill::irg::paths(&low, &high).unwrap().to_f64_vec().unwrap();
    // Unit vectors: (1, 2)/√5 and (2, 1)/√5 are √(2/5) apart; (0, 1) and (0, 1) are one.
    assert!((found[0] - 0.4).abs() < 1e-12 && found[1].abs() < 1e-12, "{found:?}");
}

#[test]
fn the_memory_of_crd_moves_towards_the_batch_and_leaves_other_samples_alone() {
    let info = find_method("crd").unwrap();
    let shapes = shapes(info, 4);
    let batch = Batch::random(&shapes, 6, 4);
    let objective = alone(joint(info), &shapes, 4).unwrap();
    let memory = || objective.state()["crd.student_memory"].to_f64_vec().unwrap();
    let before = memory();
    batch.loss(&objective).unwrap();
    assert_eq!(memory(), before, "the loss alone remembers nothing");
    objective.after_step().unwrap();
    let after = memory();
    let width = after.len() / SAMPLES;
    for sample in 0..SAMPLES {
        let row = sample * width..(sample + 1) * width;
        assert_eq!(after[row.clone()] != before[row.clone()], sample < 6, "sample {sample}");
        if sample < 6 {
            let length: f64 = after[row].iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-4, "{length}");
        }
    }
}

#[test]
fn any_methods_can_be_combined_and_their_terms_keep_their_names() {
    let info = |name| find_method(name).unwrap();
    let shapes = shapes(info("at"), 4);
    let batch = Batch::random(&shapes, 6, 4);
    let (labels, hard_weight) = (training_labels(4), 0.3);
    let term = |name, weight: f64| Term { weight: weight.into(), ..Term::new(info(name)) };
    let plan = Plan::new(hard_weight, vec![term("at", 10.0), term("hinton", 0.7), term("dkd", 0.5), term("at", 2.0)]);
    let networks = Networks { student: &shapes[0], teacher: &shapes[1], classes: 4, labels: &labels, mixed: false };
    let objective = Objective::new(&plan.unwrap(), &networks, Rng::new(1, 1), Device::Cpu).unwrap();
    let loss = batch.loss(&objective).unwrap();
    let terms: BTreeMap<String, f64> = loss.terms.iter().map(|(name, x)| (name.clone(), x.item().unwrap())).collect();
    let names: Vec<&str> = terms.keys().map(String::as_str).collect();
    assert_eq!(names, ["at", "at-2", "dkd.nckd", "dkd.tckd", "hard", "soft"]);
    let expected = 12.0 * terms["at"]
        + 0.3 * terms["hard"]
        + 0.7 * terms["soft"]
        + 0.5 * (terms["dkd.tckd"] + 8.0 * terms["dkd.nckd"]);
    let total = loss.total.item().unwrap();
    assert!((total - expected).abs() < 1e-4 * expected, "{total} instead of {expected}");

    // Of mixtures, what depends on labels is the mean of both halves by their shares; attention does not depend on labels.
    let first = Tensor::from_slice(&batch.labels, [6], Device::Cpu).unwrap();
    let second = Tensor::from_slice(&[3, 3, 2, 2, 1, 0], [6], Device::Cpu).unwrap();
    let of = |labels: &Tensor| objective.loss(&batch.inputs(labels), None).unwrap().total.item().unwrap();
    let mixture = Mixture { labels: &second, share: 0.25 };
    let mixed = objective.loss(&batch.inputs(&first), Some(mixture)).unwrap().total.item().unwrap();
    let expected = 0.25 * of(&first) + 0.75 * of(&second);
    assert!((mixed - expected).abs() < 1e-4 * expected, "{mixed} instead of {expected}");
}

#[test]
fn what_a_method_cannot_use_is_refused_with_a_next_step() {
    let task = Task { input: [1, 8, 8], classes: 4 };
    let shapes = ["student_net", "teacher_net"].map(|name| tap_shapes(name, task).unwrap());
    let named = |name: &str, student: &[&str], teacher: &[&str]| {
        let owned = |taps: &[&str]| taps.iter().map(|tap| tap.to_string()).collect();
        Term { student_taps: owned(student), teacher_taps: owned(teacher), ..Term::new(find_method(name).unwrap()) }
    };
    let cases = [
        (named("fsp", &[], &[]), "needs equal channels, but block1 has 16 and the teacher's block1 has 64"),
        (named("fsp", &["block1"], &["block1"]), "needs equal channels"),
        (named("at", &["penultimate"], &["penultimate"]), "needs feature maps [c, h, w]"),
        (named("rkd", &["penultimat"], &["penultimate"]), "did you mean `penultimate`?"),
        (named("rkd", &["penultimate"], &[]), "name as many of each"),
        (named("rkd", &["logits.pre"], &["penultimate"]), "the student's `logits` is no ReLU's output"),
        (named("rkd", &["block3.pre"], &["block1"]), "the student has no tap `block3.pre`; did you mean `block1`?"),
        (named("hinton", &["block1"], &["block1"]), "compares no feature maps"),
    ];
    for (term, expected) in cases {
        let error = alone(term, &shapes, 4).err().expect("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_registry_is_complete() {
    let mut names: Vec<&str> = METHODS.iter().map(|info| info.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), METHODS.len(), "names are unique");
    for info in METHODS {
        for text in [info.paper, info.about, info.formula, info.when] {
            assert!(!text.is_empty(), "{}", info.name);
        }
        assert!(info.cost >= 1.0 && info.hard_weight >= 0.0, "{}", info.name);
        let mut values = BTreeMap::new();
        values.insert("no-such-thing".to_string(), Value::Number(1.0));
        assert!(Settings::new(info, &values).is_err(), "{}", info.name);
    }
}

#[test]
#[cfg(unix)]
fn a_reader_that_has_seen_enough_ends_a_listing_without_a_panic() {
    use std::process::{Command, Stdio};
    let mut listing = Command::new(env!("CARGO_BIN_EXE_kdengine"));
    let mut listing =
        listing.args(["methods", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(listing.stdout.take());
    let ended = listing.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}
