//! `bench`: kernels, whole steps and the loss, timed against the machine's limit and against a saved run.

use super::bench_methods;
use super::commands::{choose_precision, device_arg, device_of, precision_arg};
use super::output::{paint, Style};
use super::runs::set_threads;
use crate::bench::{self, Case, Comparison, Limits, Measurement, Mode, Profile, Suite};
use crate::error::{Error, Result};
use crate::tensor::Device;
use clap::{value_parser, Arg, ArgAction, ArgMatches, Command};
use std::path::PathBuf;

const SUITES: [(&str, &str, Suite); 3] = [
    ("kernels", "Convolutions, products, softmax, normalisation, elementwise, Adam", Suite::Kernels),
    ("step", "Whole training and inference steps of the notebook's networks", Suite::Step),
    ("loss", "The fused distillation loss, forward and backward, from 10 to 128,256 classes", Suite::Loss),
];

const AFTER_HELP: &str = "\
Each case is timed run by run after a warm-up: median, 10th and 90th percentile. On a GPU the device's own events are read and its
cache is emptied before every run. The machine's limits, a large copy and fused multiply-adds (with --precision on its tensor cores), are
measured first. Steps run as they do in training: as graphs, or with KDENGINE_LAUNCH=plain kernel by kernel.

Examples:
  kdengine bench step                                  the seven steps of the documentation's table
  kdengine bench step --model student_net --batch 512 --mode distill
  kdengine bench step --profile --filter teacher_train
  kdengine bench methods                               what each distillation method costs, relative to labels alone
  kdengine bench kernels --filter conv3x3 --device cuda:0 --precision tf32
  kdengine bench loss --json > before.jsonl            … and after a change:
  kdengine bench loss --baseline before.jsonl --max-regression 5
  kdengine bench step --compare torch.jsonl            ratios to what another program took for the same cases";

/// The `bench` subcommand.
pub fn command() -> Command {
    let suites = Command::new("bench")
        .about("Time kernels, steps and the loss against the machine's limit and a saved run")
        .after_help(AFTER_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true);
    SUITES
        .into_iter()
        .fold(suites, |command, (name, about, suite)| {
            let mut sub = Command::new(name).about(about).after_help(AFTER_HELP);
            if suite == Suite::Step {
                let modes = clap::builder::PossibleValuesParser::new(["train", "forward", "distill"]);
                sub = sub
                    .arg(Arg::new("model").long("model").value_name("NAME").help("only this architecture"))
                    .arg(count("batch", "N", "images a step [128]").requires("model"))
                    .arg(
                        Arg::new("mode")
                            .long("mode")
                            .value_parser(modes)
                            .requires("model")
                            .help("what a step does [train]"),
                    )
                    .arg(
                        Arg::new("profile")
                            .long("profile")
                            .action(ArgAction::SetTrue)
                            .conflicts_with("baseline")
                            .help("say which op (on a GPU: which kernel) takes how much of the step"),
                    );
            }
            command.subcommand(with_options(sub))
        })
        .subcommand(bench_methods::command())
}

fn with_options(command: Command) -> Command {
    command
        .arg(Arg::new("filter").long("filter").value_name("TEXT").help("only cases whose name contains this"))
        .arg(device_arg("cpu"))
        .arg(precision_arg())
        .arg(count("threads", "N", "threads to compute with [0: all]"))
        .arg(count("runs", "N", "time each case so often [as often as it needs, 15 to 1000]"))
        .arg(
            Arg::new("baseline")
                .long("baseline")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("compare with what `bench --json` printed into this file"),
        )
        .arg(Arg::new("compare").long("compare").value_name("FILE").value_parser(value_parser!(PathBuf)).help(
            "set beside what another program took for cases of the same names: JSON lines with `what` and `median_ms`",
        ))
        .arg(
            Arg::new("max-regression")
                .long("max-regression")
                .value_name("PERCENT")
                .value_parser(value_parser!(f64))
                .requires("baseline")
                .default_value("10")
                .help("fail if a median is longer than in the baseline by more than this"),
        )
}

pub(super) fn count(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).value_parser(value_parser!(u32)).help(help)
}

/// Carries out `bench`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    let (name, matches) = matches.subcommand().expect("clap requires a subcommand");
    if name == bench_methods::NAME {
        return bench_methods::run(matches);
    }
    let (_, _, suite) = *SUITES.iter().find(|(suite, ..)| *suite == name).expect("clap knows these");
    let number = |name: &str| matches.get_one::<u32>(name).map(|&n| n as usize);
    set_threads(number("threads").unwrap_or(0))?;
    let device = device_of(matches)?;
    choose_precision(matches, device)?;
    let cases = wanted(suite, device, matches)?;
    let json = matches.get_flag("json");
    if suite == Suite::Step && matches.get_flag("profile") {
        for case in cases {
            print_profile(&bench::profile(case, device, number("runs"))?, json);
        }
        return Ok(());
    }
    let baseline = matches.get_one::<PathBuf>("baseline").map(|path| bench::load_baseline(path)).transpose()?;
    let peer = matches.get_one::<PathBuf>("compare").map(|path| bench::load_peer(path)).transpose()?;
    let limits = Limits::measure(device)?;
    print_header(device, &limits, json);

    let allowed = *matches.get_one::<f64>("max-regression").expect("has a default");
    let mut slower = Vec::new();
    for case in cases {
        let measurement = bench::measure(case, device, &limits, number("runs"))?;
        let comparison = baseline.as_ref().and_then(|baseline| Comparison::new(&measurement, baseline));
        let peer_ms = peer.as_ref().and_then(|peer| peer.get(&measurement.what)).copied();
        print_row(&measurement, comparison.as_ref(), peer_ms, json);
        if let Some(Comparison { change_percent, .. }) = comparison.filter(|c| c.change_percent > allowed) {
            slower.push(format!("{} ({change_percent:+.1} %)", measurement.what));
        }
    }
    match slower.is_empty() {
        true => Ok(()),
        false => Err(Error::Regression(format!("slower than the baseline by over {allowed} %: {}", slower.join(", ")))),
    }
}

/// The cases that the options choose.
fn wanted(suite: Suite, device: Device, matches: &ArgMatches) -> Result<Vec<Case>> {
    let model = (suite == Suite::Step).then(|| matches.get_one::<String>("model")).flatten();
    let mut cases = match model {
        None => bench::cases(suite, device)?,
        Some(model) => {
            let batch = matches.get_one::<u32>("batch").map_or(128, |&batch| batch.max(1) as usize);
            let mode = match matches.get_one::<String>("mode").map(String::as_str) {
                Some("forward") => Mode::Forward,
                Some("distill") => Mode::Distill,
                _ => Mode::Train,
            };
            vec![bench::custom_step(device, model, batch, mode)?]
        }
    };
    if let Some(filter) = matches.get_one::<String>("filter") {
        let names: Vec<String> = cases.iter().map(|case| case.what.clone()).collect();
        cases.retain(|case| case.what.contains(filter.as_str()));
        if cases.is_empty() {
            return Err(Error::argument("filter", format!("no case contains `{filter}`; cases: {}", names.join(", "))));
        }
    }
    Ok(cases)
}

fn print_header(device: Device, limits: &Limits, json: bool) {
    let (gbytes, gflops) = (limits.bytes_per_second / 1e9, limits.flops_per_second / 1e9);
    if json {
        println!("{}", serde_json::json!({"device": device.to_string(), "copy_gbytes": gbytes, "fma_gflops": gflops}));
        return;
    }
    println!("{device}: copies {gbytes:.1} GB/s, computes {gflops:.1} GFLOP/s\n");
    println!(
        "{:<42} {:>10} {:>10} {:>10} {:>10} {:>9}  {:<16}",
        "case", "median ms", "p10", "p90", "GFLOP/s", "GB/s", "of the limit"
    );
}

pub(super) fn print_profile(profile: &Profile, json: bool) {
    let Profile { what, n, step_ms, parts } = profile;
    let accounted = profile.accounted_percent();
    if json {
        for part in parts {
            let mut value = serde_json::json!({"what": what});
            let fields = serde_json::to_value(part).expect("plain values");
            value.as_object_mut().expect("made so").extend(fields.as_object().expect("a struct").clone());
            println!("{value}");
        }
        println!("{}", serde_json::json!({"what": what, "step_ms": step_ms, "accounted_percent": accounted, "n": n}));
        return;
    }
    println!("{what}: {step_ms:.4} ms a step (mean of {n}), of which the parts below are {accounted:.1} %\n");
    println!("{:<10} {:<28} {:<22} {:>5} {:>10} {:>7}", "phase", "what", "shape", "calls", "ms", "%");
    for part in parts {
        let shape = if part.shape.is_empty() { String::new() } else { format!("{:?}", part.shape) };
        println!(
            "{:<10} {:<28} {shape:<22} {:>5} {:>10.4} {:>7.2}",
            part.phase, part.op, part.calls, part.ms, part.percent
        );
    }
    println!();
}

fn print_row(row: &Measurement, comparison: Option<&Comparison>, peer_ms: Option<f64>, json: bool) {
    if json {
        let mut value = serde_json::to_value(row).expect("plain values");
        if let (Some(comparison), Some(object)) = (comparison, value.as_object_mut()) {
            object.insert("baseline_ms".to_string(), comparison.baseline_ms.into());
            object.insert("change_percent".to_string(), comparison.change_percent.into());
        }
        if let (Some(peer_ms), Some(object)) = (peer_ms, value.as_object_mut()) {
            object.insert("peer_ms".to_string(), peer_ms.into());
            object.insert("of_peer".to_string(), (row.median_ms / peer_ms).into());
        }
        println!("{value}");
        return;
    }
    let (gflops, gbytes, limit) = match &row.rate {
        None => (String::new(), String::new(), String::new()),
        Some(rate) => (
            format!("{:.1}", rate.gflops),
            format!("{:.1}", rate.gbytes),
            format!("{:.0} % of {:?}", rate.percent_of_limit, rate.limit).to_lowercase(),
        ),
    };
    let change = comparison.map_or(String::new(), |c| {
        let text = format!("{:+.1} %", c.change_percent);
        if c.change_percent > 0.0 {
            paint(Style::Error, &text)
        } else {
            paint(Style::Good, &text)
        }
    });
    let peer = peer_ms.map_or(String::new(), |ms| format!(" {:.2} of {ms:.4} ms", row.median_ms / ms));
    println!(
        "{:<42} {:>10.4} {:>10.4} {:>10.4} {gflops:>10} {gbytes:>9}  {limit:<16} {change}{peer}",
        row.what, row.median_ms, row.p10_ms, row.p90_ms
    );
}
