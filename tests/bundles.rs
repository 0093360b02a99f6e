//! Launches that are held back and started as one graph compute what they compute one by one.
#![cfg(feature = "emulator")]

mod common;

use common::{error_of, expect, kdengine, small_digits};
use kdengine::backend::cuda::bundle::{Bundler, LaunchCounts};
use kdengine::backend::cuda::driver::{DeviceInfo, DevicePtr, Driver, Graph, Launch, MemoryUse, Node, Step};
use kdengine::backend::cuda::emulator::{with_schedule, Emulator};
use kdengine::backend::cuda::launch_counts;
use kdengine::backend::{bundled, cuda};
use kdengine::models::{Model, Task};
use kdengine::nn::{Context, Module};
use kdengine::optim::{Optimizer, OptimizerConfig};
use kdengine::tensor::Rng;
use kdengine::{DType, Device, Error, Result, Shape, Tensor};
use std::path::Path;
use std::sync::Arc;

fn bundler() -> Bundler {
    Bundler::new(Arc::new(Emulator::new()))
}

fn upload(device: &dyn Driver, values: [f32; 4]) -> DevicePtr {
    let memory = device.allocate(16).unwrap();
    device.upload(memory, bytemuck::bytes_of(&values)).unwrap();
    memory
}

fn download(device: &dyn Driver, from: DevicePtr) -> [f32; 4] {
    let mut values = [0.0; 4];
    device.download(from, bytemuck::bytes_of_mut(&mut values)).unwrap();
    values
}

/// `to += from`, of `n` numbers.
fn add(to: DevicePtr, from: DevicePtr, n: u32) -> Launch {
    let args = vec![to.into(), from.into(), n.into()];
    Launch { kernel: "add_assign", grid: [1, 1, 1], block: 64, args, shapes: vec![Shape::from([4])] }
}

/// `to += from` five times in each of five bundles of the same kernels; in the last two bundles once of two numbers alone.
fn add_in_bundles(device: &Bundler, to: DevicePtr, from: DevicePtr) {
    for n in [4, 4, 4, 2, 2] {
        let mut additions = || {
            (0..4).try_for_each(|_| device.launch(&add(to, from, 4)))?;
            device.launch(&add(to, from, n))
        };
        device.bundle(&mut additions).unwrap();
    }
}

#[test]
fn everything_in_a_bundle_happens_in_its_order_also_uploads_and_what_is_read_meanwhile() {
    let device = bundler();
    let y = upload(&device, [0.0; 4]);
    device
        .bundle(&mut || {
            let x = upload(&device, [1.0; 4]);
            device.launch(&add(y, x, 4))?;
            // The same place again: the first addition must have seen the first values.
            device.upload(x, bytemuck::bytes_of(&[10.0f32; 4]))?;
            device.launch(&add(y, x, 4))?;
            assert_eq!(download(&device, y), [11.0; 4]);
            device.launch(&add(y, x, 2))?;
            device.copy(y, x, 16)?;
            device.launch(&add(y, x, 4))?;
            device.free(x, 16);
            Ok(())
        })
        .unwrap();
    assert_eq!(download(&device, y), [42.0, 42.0, 22.0, 22.0]);
    let counts = device.counts();
    assert_eq!((counts.steps, counts.in_graphs), (7, 0), "nothing came twice");
}

#[test]
fn what_comes_again_becomes_a_graph_whose_arguments_follow() {
    let device = bundler();
    let (x, y) = (upload(&device, [1.0; 4]), upload(&device, [0.0; 4]));
    add_in_bundles(&device, y, x);
    assert_eq!(download(&device, y), [25.0, 25.0, 23.0, 23.0]);
    assert_eq!(device.counts(), LaunchCounts { steps: 25, in_graphs: 20, graphs: 4, changed: 1 });
}

/// A device that refuses to make a graph, or to change the arguments of one.
struct Reluctant {
    device: Emulator,
    makes_graphs: bool,
}

/// A graph whose arguments stay as they are.
struct Rigid(Box<dyn Graph>);

impl Graph for Rigid {
    fn set(&mut self, _: usize, _: &Step) -> Result<()> {
        Err(Error::Device { op: "graph", reason: "not supported".to_string() })
    }

    fn launch(&self) -> Result<()> {
        self.0.launch()
    }
}

impl Driver for Reluctant {
    fn info(&self) -> &DeviceInfo {
        self.device.info()
    }

    fn allocate(&self, bytes: usize) -> Result<DevicePtr> {
        self.device.allocate(bytes)
    }

    fn free(&self, memory: DevicePtr, bytes: usize) {
        self.device.free(memory, bytes);
    }

    fn memory_use(&self) -> Result<MemoryUse> {
        self.device.memory_use()
    }

    fn upload(&self, to: DevicePtr, from: &[u8]) -> Result<()> {
        self.device.upload(to, from)
    }

    fn download(&self, from: DevicePtr, to: &mut [u8]) -> Result<()> {
        self.device.download(from, to)
    }

    fn copy(&self, from: DevicePtr, to: DevicePtr, bytes: usize) -> Result<()> {
        self.device.copy(from, to, bytes)
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        self.device.launch(launch)
    }

    fn synchronize(&self) -> Result<()> {
        self.device.synchronize()
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        self.device.time(work)
    }

    fn time_each(&self, steps: &[Step]) -> Result<Vec<f64>> {
        self.device.time_each(steps)
    }

    fn graph(&self, nodes: &[Node]) -> Result<Box<dyn Graph>> {
        match self.makes_graphs {
            true => Ok(Box::new(Rigid(self.device.graph(nodes)?))),
            false => Err(Error::Device { op: "graph", reason: "not supported".to_string() }),
        }
    }
}

#[test]
fn a_device_that_refuses_graphs_gets_its_launches_one_by_one() {
    for (makes_graphs, in_graphs) in [(false, 0), (true, 10)] {
        let device = Bundler::new(Arc::new(Reluctant { device: Emulator::new(), makes_graphs }));
        let (x, y) = (upload(&device, [1.0; 4]), upload(&device, [0.0; 4]));
        add_in_bundles(&device, y, x);
        assert_eq!(download(&device, y), [25.0, 25.0, 23.0, 23.0]);
        let counts = device.counts();
        assert_eq!((counts.steps, counts.in_graphs), (25, in_graphs));
    }
}

#[test]
fn memory_given_back_in_a_bundle_is_nobody_elses_before_its_launches_were_started() {
    let device = bundler();
    let y = upload(&device, [0.0; 4]);
    let step = || {
        device.bundle(&mut || {
            let first = upload(&device, [1.0; 4]);
            device.launch(&add(y, first, 4))?;
            device.free(first, 16);
            let elsewhere = std::thread::scope(|scope| scope.spawn(|| upload(&device, [7.0; 4])).join().unwrap());
            assert_ne!(elsewhere, first);
            let second = upload(&device, [2.0; 4]);
            assert_eq!(second, first, "the bundle itself takes it again");
            device.launch(&add(y, second, 4))?;
            device.launch(&add(y, elsewhere, 4))?;
            device.free(second, 16);
            std::thread::scope(|scope| scope.spawn(|| device.free(elsewhere, 16)).join().unwrap());
            Ok(())
        })
    };
    step().unwrap();
    let held = device.memory_use().unwrap().in_use;
    (0..3).for_each(|_| step().unwrap());
    assert_eq!(download(&device, y), [40.0; 4]);
    assert_eq!(device.memory_use().unwrap().in_use, held, "the blocks of a bundle are enough for the next one");
}

#[test]
fn lanes_share_no_memory_and_come_out_the_same_in_any_order() {
    let device = bundler();
    let y = upload(&device, [1.0; 4]);
    let step = |seed: u64| {
        with_schedule(seed, || {
            device.bundle(&mut || {
                let shared = upload(&device, [1.0; 4]);
                let mut sums = Vec::new();
                for lane in 1..=3u32 {
                    device.in_lane(lane, &mut || {
                        // Given back and taken again within the lane, by three lanes of the same sizes.
                        let first = upload(&device, [lane as f32; 4]);
                        let sum = upload(&device, [0.0; 4]);
                        device.launch(&add(sum, first, 4))?;
                        device.free(first, 16);
                        let second = upload(&device, [10.0 * lane as f32; 4]);
                        assert_eq!(second, first);
                        device.launch(&add(sum, second, 4))?;
                        device.launch(&add(sum, shared, 4))?;
                        device.free(second, 16);
                        sums.push(sum);
                        if lane == 3 {
                            device.free(shared, 16);
                            assert_ne!(upload(&device, [0.0; 4]), shared, "other lanes still read it");
                        }
                        Ok(())
                    })?;
                }
                sums.into_iter().try_for_each(|sum| {
                    device.launch(&add(y, sum, 4))?;
                    device.free(sum, 16);
                    Ok(())
                })
            })
        })
    };
    (0..8).for_each(|seed| step(seed).unwrap());
    assert_eq!(download(&device, y), [1.0 + 8.0 * 69.0; 4]);
    assert_eq!(device.counts().graphs, 7);
}

#[test]
fn an_error_in_a_bundle_names_its_kernel_and_leaves_the_device_usable() {
    let device = bundler();
    let (x, y) = (upload(&device, [1.0; 4]), upload(&device, [0.0; 4]));
    let error = device.bundle(&mut || device.launch(&add(y, x, 5))).unwrap_err().to_string();
    assert!(error.contains("`add_assign`") && error.contains("outside of device memory"), "{error}");
    device.bundle(&mut || device.launch(&add(y, x, 4))).unwrap();
    assert_eq!(download(&device, y), [1.0; 4]);
}

#[test]
fn a_step_seen_before_asks_the_device_for_no_memory_and_changes_one_kernels_arguments() {
    let device = Device::Emulator;
    let task = Task { input: [1, 8, 8], classes: 4 };
    let model = Model::new("cnn-2-fc4", task, Rng::new(0, 1), device).unwrap();
    let images = Tensor::uniform([4, 1, 8, 8], 0.0, 1.0, DType::F32, device, Rng::new(0, 2)).unwrap();
    let mut adam = Optimizer::new(OptimizerConfig::named("adam", 0.9, 0.0).unwrap());
    let mut step = || {
        bundled(device, || {
            let labels = Tensor::from_slice(&[0, 1, 2, 3], [4], device)?;
            let loss = model.forward(&images, &mut Context::train(Rng::new(0, 3)))?.cross_entropy(&labels, 0.0)?;
            adam.step(&model.parameters(), &loss.backward()?, 1e-3)?;
            Ok(loss.detach())
        })
        .unwrap()
    };
    let state = || (cuda::driver(device).unwrap().memory_use().unwrap().in_use, launch_counts(device).unwrap());
    let losses = [step(), step(), step()];
    let (held, before) = state();
    // One loss less is kept than was before: its block is there to be taken again.
    drop(losses);
    drop([step(), step()]);
    let (held_then, after) = state();
    assert_eq!(held_then, held);
    assert_eq!(after.graphs - before.graphs, 2);
    assert_eq!(after.in_graphs - before.in_graphs, after.steps - before.steps, "everything is in graphs");
    assert!(
        after.changed - before.changed <= 2 * 4,
        "Adam's corrections, and who touches the loss: {before:?} {after:?}"
    );
}

#[test]
fn a_tiny_network_takes_several_steps_in_one_graph() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 64, 4);
    let mut command = kdengine();
    command.env("KDENGINE_LAUNCH", "graph").args(["train", "--device", "emulator", "--data"]).arg(&data);
    command.args(["--teacher-model", "cnn-2-fc4", "--batch-size", "4", "--teacher-epochs", "3", "--out"]);
    let text = String::from_utf8(expect(command.arg(folder.path().join("run")), 0).stderr).unwrap();
    let counted = text.split_once("in graphs (").and_then(|(_, behind)| behind.split_once(','));
    let graphs: usize = counted.expect("launches are counted").0.parse().unwrap();
    // 48 steps, and the evaluations.
    assert!((11..40).contains(&graphs), "{text}");
}

/// Everything that a run's trainings computed, whatever the order of the trainings.
fn results(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for job in std::fs::read_dir(run.join("jobs")).unwrap() {
        let job = job.unwrap();
        let model = std::fs::read(job.path().join("model.safetensors")).unwrap();
        files.push((job.file_name().into_string().unwrap(), model));
    }
    files.sort();
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut lines: Vec<&str> = metrics.lines().collect();
    lines.sort();
    files.push(("metrics".into(), lines.join("\n").into_bytes()));
    files
}

#[test]
fn students_side_by_side_in_graphs_with_measured_tiles_have_the_bits_of_one_after_another_in_plain_launches() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 20, 10);
    let cache = folder.path().join("cache");
    let run = |how: &str, tune: &str| {
        let out = folder.path().join(how);
        let mut command = kdengine();
        command.env("KDENGINE_TUNE", tune).env("XDG_CACHE_HOME", &cache);
        command.env("KDENGINE_LAUNCH", how).args(["sweep", "--device", "emulator", "--data"]).arg(&data);
        // Batch norm, augmentation, a schedule, a method that reads results within a step, and a last batch that is smaller.
        command.args(["--teacher-model", "cnn-bn-2-fc8", "--student-model", "cnn-5-2-fc8", "--method", "hinton,crd"]);
        command.args(["--batch-size", "8", "--epochs", "2", "--teacher-epochs", "1", "--shift", "1"]);
        command.args(["--schedule", "cosine", "--sweep-temperatures", "2,4", "--sweep-epochs", "2", "--out"]);
        let text = String::from_utf8(expect(command.arg(&out), 0).stderr).unwrap();
        (results(&out), text)
    };
    let ((plain, _), (bundled, text)) = (run("plain", "off"), run("graph", "on"));
    let tiles = std::fs::read_dir(cache.join("kdengine/tiles")).unwrap().next().unwrap().unwrap();
    let tiles = std::fs::read_to_string(tiles.path()).unwrap();
    assert!(tiles.contains("\"conv2d_"), "{tiles}");
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&plain), ["baseline-1", "sweep-t2", "sweep-t4", "teacher", "metrics"]);
    assert_eq!(names(&bundled), names(&plain));
    plain.iter().zip(&bundled).for_each(|((name, a), (_, b))| assert!(a == b, "{name} differs"));
    assert!(text.contains("2 students side by side") && text.contains("% of them in graphs"), "{text}");
}

#[test]
fn a_way_to_launch_or_to_tune_that_there_is_not_is_refused() {
    for (variable, reason) in [
        ("KDENGINE_LAUNCH", "KDENGINE_LAUNCH is `plian`; it may be `plain` or `graph`"),
        ("KDENGINE_TUNE", "KDENGINE_TUNE is `plian`; it may be `on` or `off`"),
        ("KDENGINE_WGMMA", "KDENGINE_WGMMA is `plian`; it may be `on` or `off`"),
        ("KDENGINE_CLUSTERS", "KDENGINE_CLUSTERS is `plian`; it may be `on` or `off`"),
        ("KDENGINE_WINOGRAD", "KDENGINE_WINOGRAD is `plian`; it may be `on` or `off`"),
    ] {
        let mut command = kdengine();
        command.env(variable, "plian").args(["bench", "step", "--device", "emulator"]);
        let error = error_of(&mut command, 1);
        assert!(error.contains(reason), "{error}");
    }
}
