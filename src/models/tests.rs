use super::*;
use crate::nn::PRE_ACTIVATION;
use crate::tensor::DType;

fn model(name: &str) -> Model {
    let task = architecture(name).unwrap().default_task;
    Model::new(name, task, Rng::new(0, 0), Device::Cpu).unwrap()
}

#[test]
fn parameter_counts_are_the_notebooks() {
    let notebook =
        [("teacher_net", 1_554_954), ("student_net", 105_866), ("demo_teacher", 76_938), ("demo_student", 1_226)];
    for (name, parameters) in notebook.into_iter().chain([("student_net-x2", 421_642), ("student_net-x3", 947_338)]) {
        assert_eq!(model(name).parameter_count(), parameters, "{name}");
    }
}

#[test]
fn names_are_what_pytorch_would_save() {
    let names = |m: &str| model(m).state().into_keys().collect::<Vec<_>>();
    let expected = [
        "conv1.bias",
        "conv1.weight",
        "conv2.bias",
        "conv2.weight",
        "fc1.bias",
        "fc1.weight",
        "fc2.bias",
        "fc2.weight",
    ];
    assert_eq!(names("student_net"), expected);
    assert_eq!(names("demo_student"), ["conv.0.bias", "conv.0.weight", "fc.bias", "fc.weight"]);
}

#[test]
fn taps_are_taken_in_one_forward_pass() {
    type Taps<'a> = &'a [(&'a str, &'a [usize])];
    let shapes: [(&str, Taps); 4] = [
        (
            "teacher_net",
            &[
                ("block1", &[2, 64, 14, 14]),
                ("block2", &[2, 128, 7, 7]),
                ("block3", &[2, 256, 3, 3]),
                ("penultimate", &[2, 512]),
                ("logits", &[2, 10]),
            ],
        ),
        (
            "student_net",
            &[
                ("block1", &[2, 16, 14, 14]),
                ("block2", &[2, 32, 7, 7]),
                ("penultimate", &[2, 64]),
                ("logits", &[2, 10]),
            ],
        ),
        (
            "demo_teacher",
            &[
                ("block1", &[2, 64, 32, 32]),
                ("block2", &[2, 128, 32, 32]),
                ("penultimate", &[2, 128]),
                ("logits", &[2, 10]),
            ],
        ),
        ("demo_student", &[("block1", &[2, 32, 32, 32]), ("penultimate", &[2, 32]), ("logits", &[2, 10])]),
    ];
    for (name, taps) in shapes {
        let model = model(name);
        let names: Vec<&str> = taps.iter().map(|(tap, _)| *tap).collect();
        assert_eq!(model.taps(), names, "{name}");
        let [c, h, w] = model.task().input;
        let mut cx = Context::eval().with_taps(&names);
        model.forward(&Tensor::zeros([2, c, h, w], DType::F32, Device::Cpu).unwrap(), &mut cx).unwrap();
        for (tap, shape) in taps {
            assert_eq!(cx.tapped(tap).unwrap().shape().dims(), *shape, "{name} {tap}");
        }
    }
}

#[test]
fn what_a_relu_takes_can_be_tapped_and_changes_nothing() {
    let names = ARCHITECTURES.iter().map(|a| a.name).chain(["mlp-7-5", "cnn-3-4-fc5", "cnn-bn-3-4-fc5"]);
    for (name, training) in names.flat_map(|name| [(name, false), (name, true)]) {
        let task = Task { input: [1, 14, 15], classes: 4 };
        let images = Tensor::normal([3, 1, 14, 15], 0.0, 1.0, DType::F32, Device::Cpu, Rng::new(1, 0)).unwrap();
        let taps: Vec<TapShape> = tap_shapes(name, task).unwrap().into_iter().filter(|tap| tap.rectified).collect();
        assert!(!taps.is_empty(), "{name}");
        let names = |suffix: &str| -> Vec<String> { taps.iter().map(|t| format!("{}{suffix}", t.name)).collect() };
        let pass = |names: &[String]| {
            let model = Model::new(name, task, Rng::new(4, 0), Device::Cpu).unwrap();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let cx = if training { Context::train(Rng::new(2, 0)) } else { Context::eval() };
            let mut cx = cx.with_taps(&names);
            let logits = model.forward(&images, &mut cx).unwrap();
            let gradients = logits.square().unwrap().mean_all().unwrap().backward().unwrap();
            let first = gradients.get(&model.parameters()[0].1.get()).unwrap().to_f64_vec().unwrap();
            let taken = names.iter().map(|name| cx.tapped(name).unwrap().clone()).collect::<Vec<_>>();
            ([first, logits.to_f64_vec().unwrap()].concat(), taken)
        };
        let ((plain, after), (tapped, before)) = (pass(&names("")), pass(&names(PRE_ACTIVATION)));
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(near(&plain, &tapped), "{name}: other logits or gradients");
        for (tap, (after, before)) in taps.iter().zip(after.iter().zip(&before)) {
            let [relu, after, before] =
                [before.relu().unwrap(), after.clone(), before.clone()].map(|x| x.to_f64_vec().unwrap());
            assert!(after.len() == relu.len() && near(&relu, &after), "{name}: {}", tap.name);
            assert!(before.iter().any(|x| *x < 0.0), "{name}: {}", tap.name);
        }
    }
}

#[test]
fn the_summary_adds_up() {
    let summary = summarise(&model("teacher_net")).unwrap();
    assert_eq!(summary.parameters, 1_554_954);
    let per_image = 2.0 * (9 * 64 * 784 + 9 * 64 * 128 * 196 + 9 * 128 * 256 * 49 + 2304 * 512 + 512 * 10) as f64;
    assert!((summary.flops - per_image).abs() / per_image < 0.02, "{} against {per_image}", summary.flops);
    assert_eq!(summary.layers[0].output, [64, 14, 14]);
    assert_eq!(summary.layers[0].activation_bytes, 64 * 14 * 14 * 4);
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let weights = |seed| {
        let task = Task { input: [1, 28, 28], classes: 10 };
        let model = Model::new("student_net", task, Rng::new(seed, 3), Device::Cpu).unwrap();
        model.state()["fc1.weight"].to_vec::<f32>().unwrap()
    };
    assert_eq!(weights(1), weights(1));
    assert_ne!(weights(1), weights(2));
    let bound = 1.0 / (1568f32).sqrt();
    assert!(weights(1).iter().all(|w| w.abs() <= bound) && weights(1).iter().any(|w| w.abs() > 0.9 * bound));
}

#[test]
fn a_checkpoint_of_another_architecture_is_explained_and_changes_nothing() {
    let student = model("student_net");
    let before = student.state()["conv2.weight"].to_vec::<f32>().unwrap();
    let error = student.load_state(&model("teacher_net").state(), Path::new("t.safetensors")).unwrap_err().to_string();
    for part in [
        "t.safetensors: does not fit student_net",
        "unexpected conv3.bias",
        "misshaped",
        "conv1.weight (model [16, 1, 3, 3]",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let mut partial = student.state();
    partial.remove("fc1.bias");
    assert!(student.load_state(&partial, Path::new("p")).unwrap_err().to_string().contains("missing fc1.bias"));
    assert_eq!(student.state()["conv2.weight"].to_vec::<f32>().unwrap(), before);
}

#[test]
fn wrong_names_and_images_are_refused() {
    let error = architecture("techer_net").err().unwrap().to_string();
    assert!(error.contains("did you mean `teacher_net`?"), "{error}");
    let task = Task { input: [1, 4, 4], classes: 10 };
    assert!(Model::new("teacher_net", task, Rng::new(0, 0), Device::Cpu).is_err());
    let error = model("student_net")
        .forward(&Tensor::zeros([2, 3, 28, 28], DType::F32, Device::Cpu).unwrap(), &mut Context::eval());
    assert!(error.unwrap_err().to_string().contains("expected [n, 1, 28, 28]"));
}

#[test]
fn a_frozen_copy_says_the_same_and_passes_gradients_to_its_input_alone() {
    let model = model("student_net").normalising(vec![[0.3, 0.5]]);
    let frozen = model.frozen().unwrap();
    let images = Tensor::normal([2, 1, 28, 28], 0.0, 1.0, DType::F32, Device::Cpu, Rng::new(1, 1)).unwrap().variable();
    let says = |model: &Model| model.forward(&images, &mut Context::eval()).unwrap();
    assert_eq!(says(&model).to_vec::<f32>().unwrap(), says(&frozen).to_vec::<f32>().unwrap());
    let gradients = says(&frozen).square().unwrap().sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&images).is_some());
    assert_eq!(gradients.len(), 1, "no weight has a gradient");
}
