//! Terms that are not the same in every step: memories, stages, schedules, a temperature and a discriminator that learn.

use kdengine::distill::{
    find_method, Features, Loss, Networks, Objective, Plan, Scheduled, Settings, StepInputs, Term, Value, METHODS,
};
use kdengine::models::{tap_shapes, TapShape, Task};
use kdengine::nn::PRE_ACTIVATION;
use kdengine::pipeline::RunConfig;
use kdengine::recipes::RECIPES;
use kdengine::tensor::Rng;
use kdengine::{DType, Device, Shape, Tensor};
use std::collections::BTreeMap;

const CLASSES: usize = 4;
const SAMPLES: usize = 8;

/// Two networks and one batch of them: the whole training set, in order.
struct Scene {
    shapes: [Vec<TapShape>; 2],
    logits: [Tensor; 2],
    features: [Features; 2],
    labels: Vec<i32>,
}

impl Scene {
    fn new() -> Scene {
        let task = Task { input: [1, 8, 8], classes: CLASSES };
        let shapes = ["student_net", "teacher_net"].map(|name| tap_shapes(name, task).unwrap());
        let normal = |dims: &[usize], stream| {
            let dims: Vec<usize> = [&[SAMPLES], dims].concat();
            let shape = Shape::new(&dims).unwrap();
            Tensor::normal(shape, 0.0, 1.0, DType::F32, Device::Cpu, Rng::new(9, stream)).unwrap().variable()
        };
        let features = [0, 1].map(|i: usize| {
            let maps = shapes[i].iter().zip(100 * (i as u64 + 1)..);
            let names = |tap: &TapShape| [tap.name.clone(), format!("{}{PRE_ACTIVATION}", tap.name)];
            maps.flat_map(|(tap, stream)| names(tap).map(|name| (name, normal(&tap.shape, stream)))).collect()
        });
        let logits = [normal(&[CLASSES], 1), normal(&[CLASSES], 2)];
        Scene { shapes, logits, features, labels: (0..SAMPLES).map(|i| (i % CLASSES) as i32).collect() }
    }

    fn objective(&self, hard_weight: impl Into<Scheduled>, terms: Vec<Term>) -> kdengine::Result<Objective> {
        let networks = Networks {
            student: &self.shapes[0],
            teacher: &self.shapes[1],
            classes: CLASSES,
            labels: &self.labels,
            mixed: false,
        };
        Objective::new(&Plan::new(hard_weight, terms)?, &networks, Rng::new(1, 1), Device::Cpu)
    }

    fn alone(&self, term: Term) -> Objective {
        self.objective(0.0, vec![Term { weight: 1.0.into(), ..term }]).unwrap()
    }

    /// The loss of the first samples in an epoch of so many.
    fn loss(&self, objective: &Objective, [epoch, epochs]: [usize; 2]) -> Loss {
        let labels = Tensor::from_slice(&self.labels, [SAMPLES], Device::Cpu).unwrap();
        let samples: Vec<u32> = (0..SAMPLES as u32).collect();
        let inputs = StepInputs {
            student_features: &self.features[0],
            teacher_features: &self.features[1],
            samples: &samples,
            epoch,
            epochs,
            ..StepInputs::of_logits(&self.logits[0], Some(&self.logits[1]), &labels)
        };
        objective.loss(&inputs, None).unwrap()
    }
}

fn term(name: &str, settings: &[(&str, &str)]) -> Term {
    let info = find_method(name).unwrap();
    let value = |text: &str| text.parse().map(Value::Number).unwrap_or(Value::Text(text.to_string()));
    let values: BTreeMap<String, Value> = settings.iter().map(|(k, v)| (k.to_string(), value(v))).collect();
    Term { settings: Settings::new(info, &values).unwrap(), ..Term::new(info) }
}

fn total(loss: &Loss) -> f64 {
    loss.total.item().unwrap()
}

fn named(loss: &Loss) -> BTreeMap<String, f64> {
    loss.terms.iter().map(|(name, x)| (name.clone(), x.item().unwrap())).collect()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-5 * (1.0 + b.abs())
}

/// `mean_i Σ_c −target[i, c] · log softmax(z)[i, c]`.
fn cross_entropy(logits: &Tensor, target: impl Fn(usize, usize) -> f64) -> f64 {
    let log_p = logits.log_softmax(1.0).unwrap().to_f64_vec().unwrap();
    let each = log_p.iter().enumerate().map(|(k, log_p)| -target(k / CLASSES, k % CLASSES) * log_p);
    each.sum::<f64>() / SAMPLES as f64
}

#[test]
fn label_smoothing_spreads_epsilon_over_all_classes() {
    let scene = Scene::new();
    let label = |i: usize, c: usize| f64::from(u8::from(scene.labels[i] as usize == c));
    let found = total(&scene.loss(&scene.alone(term("label-smoothing", &[("epsilon", "0.3")])), [1, 1]));
    let expected = cross_entropy(&scene.logits[0], |i, c| 0.7 * label(i, c) + 0.3 / CLASSES as f64);
    assert!(near(found, expected), "{found} instead of {expected}");
}

#[test]
fn ps_kd_softens_labels_by_what_was_said_an_epoch_ago_and_more_so_in_the_end() {
    let mut scene = Scene::new();
    let objective = scene.alone(term("ps-kd", &[("alpha", "0.8")]));
    let label = |i: usize, c: usize| f64::from(u8::from(i % CLASSES == c));
    let first = total(&scene.loss(&objective, [1, 4]));
    assert!(near(first, cross_entropy(&scene.logits[0], label)), "in the first epoch the past is the labels");
    assert_eq!(total(&scene.loss(&objective, [1, 4])), first, "the loss alone remembers nothing");
    objective.after_step().unwrap();
    let past = scene.logits[0].softmax(1.0).unwrap().to_f64_vec().unwrap();
    scene.logits[0] = scene.logits[1].clone();
    for (epoch, alpha) in [(2, 0.4), (4, 0.8)] {
        let found = total(&scene.loss(&objective, [epoch, 4]));
        let target = |i: usize, c: usize| (1.0 - alpha) * label(i, c) + alpha * past[i * CLASSES + c];
        let expected = cross_entropy(&scene.logits[0], target);
        assert!(near(found, expected), "epoch {epoch}: {found} instead of {expected}");
    }
}

#[test]
fn temporal_ensembling_averages_answers_and_corrects_for_the_start_at_zero() {
    let mut scene = Scene::new();
    let objective = scene.alone(term("temporal-ensemble", &[("alpha", "0.6"), ("ramp-up", "0.5")]));
    assert_eq!(total(&scene.loss(&objective, [10, 10])), 0.0, "nothing is known of a sample before it was seen");
    objective.after_step().unwrap();
    assert!(total(&scene.loss(&objective, [10, 10])) < 1e-12, "after one visit the average is that answer");
    let answers = [0, 1].map(|i: usize| scene.logits[i].softmax(1.0).unwrap().to_f64_vec().unwrap());
    scene.logits[0] = scene.logits[1].clone();
    scene.loss(&objective, [10, 10]);
    objective.after_step().unwrap();
    let average = |k: usize| (0.6 * 0.4 * answers[0][k] + 0.4 * answers[1][k]) / (1.0 - 0.6f64.powi(2));
    let squares: f64 = (0..SAMPLES * CLASSES).map(|k| (answers[1][k] - average(k)).powi(2)).sum();
    let expected = squares / (SAMPLES * CLASSES) as f64;
    for (epoch, ramp) in [(1, (-5.0f64).exp()), (6, 1.0)] {
        let found = total(&scene.loss(&objective, [epoch, 10]));
        assert!(near(found / ramp, expected), "epoch {epoch}: {found} instead of {ramp} · {expected}");
    }
}

#[test]
fn a_first_stage_is_alone_and_then_over() {
    let scene = Scene::new();
    for hint in [term("fitnet", &[("stages", "two"), ("hint-epochs", "2")]), term("ab", &[("first-epochs", "2")])] {
        first_stage_is_alone_and_then_over(&scene, hint);
    }
}

fn first_stage_is_alone_and_then_over(scene: &Scene, hint: Term) {
    let name = hint.info.name;
    let objective = scene.objective(0.5, vec![Term::new(find_method("hinton").unwrap()), hint.clone()]).unwrap();
    let terms = |epoch| named(&scene.loss(&objective, [epoch, 6])).into_keys().collect::<Vec<_>>();
    assert_eq!((terms(1), terms(2)), (vec![name.to_string()], vec![name.to_string()]));
    assert_eq!(terms(3), ["hard", "soft"]);
    let gradients = scene.loss(&objective, [2, 6]).total.backward().unwrap();
    assert!(gradients.get(&scene.logits[0]).is_none(), "the classifier learns nothing from a hint");
    let growing = Term { weight: Scheduled::parse("0..7").unwrap(), ..hint.clone() };
    let first = scene.loss(&scene.objective(0.5, vec![growing.clone()]).unwrap(), [1, 6]);
    assert!(
        near(total(&first), 7.0 * named(&first)[name]),
        "{name} has its full weight, which comes too late otherwise"
    );
    let error = Plan::new(0.5, vec![growing]).unwrap().check_epochs(1).unwrap_err().to_string();
    assert!(error.contains("one epoch is no two stages"), "{error}");
    let in_two_epochs = named(&scene.loss(&objective, [2, 2]));
    assert!(!in_two_epochs.contains_key(name), "half of the epochs are left for the second stage");
    let error = scene.objective(0.0, vec![hint]).err().unwrap().to_string();
    assert!(error.contains("nothing is learned after it"), "{error}");
}

#[test]
fn the_paraphraser_of_ft_learns_first_and_stays_as_it_is_then() {
    let scene = Scene::new();
    let objective = scene.objective(0.5, vec![term("ft", &[("paraphraser-epochs", "2")])]).unwrap();
    let learned = |epoch| {
        let loss = scene.loss(&objective, [epoch, 6]);
        let gradients = loss.total.backward().unwrap();
        let adapters = objective.parameters().into_iter();
        let learns = adapters.filter(|(_, parameter)| gradients.get(&parameter.get()).is_some());
        let mut parts: Vec<String> = learns.map(|(name, _)| name.rsplit('.').nth(1).unwrap().to_string()).collect();
        parts.dedup();
        (named(&loss).into_keys().collect::<Vec<_>>(), parts, gradients.get(&scene.logits[0]).is_some())
    };
    let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    for epoch in [1, 2] {
        assert_eq!(learned(epoch), (names(&["ft.reconstruction"]), names(&["paraphraser", "inverse"]), false));
    }
    assert_eq!(learned(3), (names(&["ft", "hard"]), names(&["translator"]), true));
    let late =
        Term { weight: Scheduled::parse("0..200:step@4").unwrap(), ..term("ft", &[("paraphraser-epochs", "2")]) };
    let loss = scene.loss(&scene.objective(0.5, vec![late.clone()]).unwrap(), [1, 6]);
    assert!(near(total(&loss), named(&loss)["ft.reconstruction"]), "the weight is the factors', not the paraphraser's");
    let loss = scene.loss(&scene.objective(0.5, vec![late]).unwrap(), [1, 1]);
    assert!(named(&loss).contains_key("ft.reconstruction"), "an epoch has no first half, so both are learned at once");
}

#[test]
fn weights_and_temperatures_follow_their_schedules() {
    let scene = Scene::new();
    let soft = Term { weight: Scheduled::parse("1..0:step@1").unwrap(), ..term("hinton", &[("temperature", "4..1")]) };
    let objective = scene.objective(Scheduled::parse("0..1").unwrap(), vec![soft]).unwrap();
    let at =
        |temperature: &str| total(&scene.loss(&scene.alone(term("hinton", &[("temperature", temperature)])), [1, 1]));
    let hard = total(&scene.loss(&scene.objective(1.0, Vec::new()).unwrap(), [1, 1]));
    for (epoch, weights, temperature) in [(1, [0.0, 1.0], "4"), (2, [0.5, 0.0], "2.5"), (3, [1.0, 0.0], "1")] {
        let loss = scene.loss(&objective, [epoch, 3]);
        let expected = weights[0] * hard + weights[1] * at(temperature);
        assert!(near(total(&loss), expected), "epoch {epoch}: {} instead of {expected}", total(&loss));
        assert!(near(named(&loss)["soft"], at(temperature)), "epoch {epoch}: the temperature is {temperature}");
    }
    let info = find_method("dkd").unwrap();
    for (name, text) in [("temperature", "4..0"), ("temperature", "warm"), ("alpha", "1..2")] {
        let values = BTreeMap::from([(name.to_string(), Value::Text(text.to_string()))]);
        assert!(Settings::new(info, &values).unwrap_err().to_string().contains(name), "{name} = {text}");
    }
}

#[test]
fn the_learned_temperature_of_ctkd_climbs_and_not_before_its_curriculum_begins() {
    let scene = Scene::new();
    // A range in which single precision resolves the difference of two losses.
    let objective = scene.alone(term("ctkd", &[("curriculum-epochs", "2"), ("range", "3")]));
    let (_, theta) = objective.parameters().remove(0);
    let slope = |epoch| {
        let gradients = scene.loss(&objective, [epoch, 5]).total.backward().unwrap();
        gradients.get(&theta.get()).unwrap().item().unwrap()
    };
    let value = |delta: f32| {
        let before = theta.get().to_vec::<f32>().unwrap()[0];
        theta.set(&Tensor::from_slice(&[before + delta], [1], Device::Cpu).unwrap()).unwrap();
        let value = total(&scene.loss(&objective, [5, 5]));
        theta.set(&Tensor::from_slice(&[before], [1], Device::Cpu).unwrap()).unwrap();
        value
    };
    let numeric = (value(0.05) - value(-0.05)) / 0.1;
    assert_eq!(slope(1), 0.0, "λ is 0 in the first epoch");
    assert!((slope(2) / slope(5) - 0.5).abs() < 1e-3, "λ is half-way in the middle of its curriculum");
    assert!((slope(5) + numeric).abs() < 0.02 * numeric.abs(), "{} is minus {numeric}", slope(5));
    let temperature = named(&scene.loss(&objective, [1, 1]))["ctkd.temperature"];
    assert!((temperature - 3.193).abs() < 0.001, "1 + 3 σ(1), found {temperature}");
}

#[test]
fn a_discriminator_learns_after_each_step_and_the_students_optimiser_never_sees_it() {
    let scene = Scene::new();
    for name in ["adversarial", "adversarial-features"] {
        let objective = scene.alone(term(name, &[("discriminator-lr", "0.02")]));
        assert!(objective.parameters().iter().all(|(name, _)| !name.contains("discriminator")), "{name}");
        let accuracy =
            |objective: &Objective| named(&scene.loss(objective, [1, 1]))[&format!("{name}.discriminator-accuracy")];
        (0..20).for_each(|_| {
            scene.loss(&objective, [1, 1]);
            objective.after_step().unwrap();
        });
        let saved = objective.state();
        (0..100).for_each(|_| {
            scene.loss(&objective, [1, 1]);
            objective.after_step().unwrap();
        });
        assert_eq!(accuracy(&objective), 100.0, "{name}: a student that stands still is told apart");

        // Its optimiser is part of what is saved: from there, another one takes the same steps.
        let again = scene.alone(term(name, &[("discriminator-lr", "0.02")]));
        again.load_state(&saved).unwrap();
        (0..100).for_each(|_| {
            scene.loss(&again, [1, 1]);
            again.after_step().unwrap();
        });
        assert_eq!(total(&scene.loss(&again, [1, 1])), total(&scene.loss(&objective, [1, 1])), "{name}");
    }
}

#[test]
fn deep_layers_teach_shallow_ones_and_not_the_other_way_round() {
    let scene = Scene::new();
    let objective = scene.alone(term("early-exit", &[]));
    assert_eq!(objective.student_taps(), ["block1", "block2"]);
    assert!(!objective.needs_teacher());
    let gradients = scene.loss(&objective, [1, 1]).total.backward().unwrap();
    assert!(gradients.get(&scene.features[0]["block1"]).is_some(), "the shallow stage learns");
    assert!(gradients.get(&scene.features[0]["block2"]).is_none(), "the deepest features are constants");
    assert!(gradients.get(&scene.logits[0]).is_none(), "the deepest classifier learns from labels alone");
}

#[test]
fn branches_and_the_student_learn_from_their_ensemble() {
    let scene = Scene::new();
    let objective = scene.alone(term("multi-branch", &[("branches", "3"), ("ramp-up", "0")]));
    let loss = scene.loss(&objective, [1, 1]);
    let terms = named(&loss);
    let sum = terms["multi-branch.branches"] + terms["multi-branch.ensemble"] + terms["multi-branch.soft"];
    assert!(near(total(&loss), sum) && terms["multi-branch.soft"] > 0.0, "{terms:?}");
    let gradients = loss.total.backward().unwrap();
    assert!(gradients.get(&scene.logits[0]).is_some(), "the student is one of the branches");
    assert!(gradients.get(&scene.features[0]["block1"]).is_some(), "the trunk is shared");
    let branches = objective.parameters().iter().filter(|(name, _)| name.ends_with("classifier.weight")).count();
    assert_eq!(branches, 3);
    assert!(total(&scene.loss(&scene.alone(term("multi-branch", &[("ramp-up", "0.5")])), [1, 10])) < sum);
}

#[test]
fn what_a_student_cannot_teach_itself_is_refused_with_a_next_step() {
    let scene = Scene::new();
    let taps = |student: &[&str], teacher: &[&str]| {
        let owned = |taps: &[&str]| taps.iter().map(|tap| tap.to_string()).collect();
        Term { student_taps: owned(student), teacher_taps: owned(teacher), ..term("early-exit", &[]) }
    };
    for (term, expected) in [
        (taps(&["block2"], &[]), "is the last feature map"),
        (taps(&["penultimate"], &[]), "needs feature maps [c, h, w]"),
        (taps(&["block1"], &["block1"]), "learns from no teacher"),
        (taps(&["block9"], &[]), "did you mean"),
    ] {
        let error = scene.objective(1.0, vec![term]).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn schedules_are_written_alike_in_a_file_and_on_the_command_line() {
    let table = |text: &str| text.parse::<toml::Table>().unwrap();
    let file = r#"
        temperature = "4..1"
        hard-weight = "0..1:cosine"
        soft-weight = 1
        [[term]]
        method = "dkd"
        weight = "0..2"
        temperature = "8..1:step@3"
    "#;
    let config = RunConfig::resolve(table(file), table("")).unwrap();
    assert_eq!(config.hard_weight.to_string(), "0..1:cosine");
    assert_eq!(config.term[0].values["temperature"], Value::Text("8..1:step@3".to_string()));
    assert_eq!(RunConfig::resolve(table(&config.to_toml()), table("")).unwrap(), config, "written out and read again");

    let line = "method = 'dkd'\nset = 'weight=0..2,temperature=8..1:step@3'\ntemperature = '4..1'\nhard-weight = '0..1:cosine'\nsoft-weight = 1.0";
    assert_eq!(RunConfig::resolve(table(""), table(line)).unwrap(), config);
    let twice = "[[term]]\nmethod = 'at'\n[[term]]\nmethod = 'at'\npower = 4";
    assert_eq!(RunConfig::resolve(table(twice), table("")).unwrap().term.len(), 2, "each table has its own settings");
    for (wrong, expected) in [
        ("temperature = '4..0'", "temperature: must be 0.001 to 10000"),
        ("temperature = '4..1e20'", "temperature: must be 0.001 to 10000"),
        ("temperature = '1e20..4'", "temperature: must be 0.001 to 10000"),
        ("soft-weight = '1..-1'", "soft-weight: must be 0 to 1e9, found 1..-1"),
        ("soft-weight = 1e38", "soft-weight: must be 0 to 1e9"),
        ("hard-weight = '0..1e10'", "hard-weight: must be 0 to 1e9, found 0..10000000000"),
        ("method = 'at'\nset = 'weight=1e38'", "at: weight: must be 0 to 1e9"),
        ("method = 'at'\nset = 'weight=nan'", "at: weight: `nan` is no number or schedule"),
        ("[[term]]\nmethod = 'born-again'", "`born-again` is a recipe"),
        ("hard-weight = 'much'", "FROM..TO"),
        ("epochs = 1\ntemperature = '4..1:step@99'", "hinton: temperature: is 4..1:step@99, but"),
        ("epochs = 1\ntemperature = '4..1:step'", "hinton: temperature: is 4..1:step, but"),
        ("epochs = 5\nhard-weight = '0..1:step@5'", "hard-weight: is 0..1:step@5, but"),
        ("epochs = 5\nmethod = 'at'\nset = 'weight=0..9:step@7'", "at: weight: is 0..9:step@7, but"),
        ("epochs = 5\nmethod = 'dkd'\nset = 'temperature=8..1:step@9'", "dkd: temperature: is 8..1:step@9, but"),
        ("epochs = 5\nmethod = 'ema'\nset = 'temperature=8..1:step@9'", "temperature: is 8..1:step@9, but"),
        ("method = 'at'\nset = 'power=1..2'", "power"),
        ("method = 'at+at'", "method: names at twice"),
        ("methods = 'hinton,at+at'", "names at twice"),
        ("curriculum = 2", "share of the epochs"),
        ("quantize = 'int9'", "did you mean `int8`?"),
    ] {
        let error = RunConfig::resolve(table(""), table(wrong)).unwrap_err().to_string();
        assert!(error.contains(expected), "{wrong}: {error}");
    }
}

#[test]
fn temperatures_and_weights_that_would_overflow_are_refused_in_every_method() {
    let resolve = |method: &str, set: &str| {
        let line = format!("method = '{method}'\nset = '{set}'").parse().unwrap();
        RunConfig::resolve(toml::Table::new(), line).map(drop)
    };
    let methods = METHODS.iter().map(|info| (info.name, info.hyperparameters));
    for (method, hyperparameters) in methods.chain(RECIPES.iter().map(|info| (info.name, info.hyperparameters))) {
        for set in ["temperature=1e30", "temperature=1e-30"] {
            if hyperparameters.iter().any(|h| h.name == "temperature") {
                let error = resolve(method, set).unwrap_err().to_string();
                assert!(error.contains("temperature: must be 0.001 to 10000"), "{method} {set}: {error}");
            }
        }
    }
    for info in METHODS {
        let error = resolve(info.name, "weight=1e30").unwrap_err().to_string();
        assert!(error.contains("weight: must be 0 to 1e9"), "{}: {error}", info.name);
    }
}
