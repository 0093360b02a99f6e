//! The subcommands: what each is called, what its help says, and where it is carried out.

use super::{adapt, args, bench, check, data, doctor, methods, models, output, runs};
use crate::backend::cpu::kernels::isa;
use crate::backend::open_device;
use crate::backend::precision::{self, Precision};
use crate::error::{Error, Result};
use crate::pipeline::Stages;
use crate::tensor::Device;
use clap::{value_parser, Arg, ArgAction, ArgMatches, Command};
use std::path::PathBuf;

const ABOUT: &str = "Knowledge distillation in one binary: train a teacher, distil students, compare them honestly";

const AFTER_HELP: &str = "\
Examples:
  kdengine run                                     the whole pipeline on the embedded data set, in two minutes
  kdengine data get mnist && kdengine run --data mnist
  kdengine run --data mnist --train-limit 2000 --epochs 40 --teacher-epochs 10 --seeds 5
  kdengine distill --method at --soft-weight 0.9
  kdengine compare --methods hinton,at,rkd,at+hinton --seeds 5
  kdengine search --method at+hinton --space at.weight=10..10000 --space hinton.temperature=1,2,4,8
  kdengine search --space student-model=cnn-4..32-8..64-fc16..128 --budget parameters=20k --strategy halving
  kdengine methods at
  kdengine summary teacher_net
  kdengine adapt runs/train-mnist/jobs/teacher/model.safetensors --data mnist --corrupt gaussian-noise:3,contrast

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (everything is saved; go on with --resume).";

/// Commands that are stages of a run: name, what it does, the stages.
const RUNS: [(&str, &str, Stages); 8] = [
    (
        "run",
        "The whole notebook: teacher, distilled and baseline students, comparison, sweep, ablation, report",
        Stages::ALL,
    ),
    ("train", "Train one model on labels alone (--teacher-model names it)", Stages::NONE),
    (
        "distill",
        "Distil students from a teacher (--teacher FILE, or trained first)",
        Stages { distil: true, ..Stages::NONE },
    ),
    (
        "compare",
        "Distilled against baseline students over --seeds, with a paired test; --methods makes it a leaderboard",
        Stages { distil: true, baseline: true, ..Stages::NONE },
    ),
    (
        "sweep",
        "One distilled student for each of --sweep-temperatures",
        Stages { baseline: true, sweep: true, ..Stages::NONE },
    ),
    ("ablate", "Soft targets only, labels only, both, and other weights", Stages { ablation: true, ..Stages::NONE }),
    (
        "search",
        "Search a --space of settings and architectures for one student, within a --budget, judged by images that nobody learns from",
        Stages { search: true, ..Stages::NONE },
    ),
    (
        "analyze",
        "What explains a distillation: layers, soft targets, attention, student size, teachers, label noise, data",
        Stages { analysis: true, ..Stages::NONE },
    ),
];

/// The whole command line.
pub fn command() -> Command {
    let runs = RUNS.map(|(name, about, _)| args::with_run_options(Command::new(name).about(about)));
    Command::new("kdengine")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(AFTER_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(global_flag("verbose", Some('v'), "say more").conflicts_with("quiet"))
        .arg(global_flag("quiet", Some('q'), "say nothing but results and errors"))
        .arg(global_flag("json", None, "print results as JSON"))
        .subcommands(runs)
        .subcommand(models::eval_command())
        .subcommand(models::predict_command())
        .subcommand(models::summary_command())
        .subcommand(adapt::command())
        .subcommand(methods::command())
        .subcommand(data::command())
        .subcommand(doctor::command())
        .subcommand(bench::command())
        .subcommand(check::gradcheck_command())
        .subcommand(check::conformance_command())
}

fn global_flag(name: &'static str, short: Option<char>, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).help(help).action(ArgAction::SetTrue).global(true);
    match short {
        Some(short) => arg.short(short),
        None => arg,
    }
}

/// Carries out what was asked for.
pub fn dispatch(matches: &ArgMatches) -> Result<()> {
    let (name, matches) = matches.subcommand().expect("clap requires a subcommand");
    output::set_verbosity(match (matches.get_flag("quiet"), matches.get_flag("verbose")) {
        (true, _) => 0,
        (_, true) => 2,
        _ => 1,
    });
    isa::from_environment().map_err(Error::Config)?;
    if let Some((_, _, stages)) = RUNS.iter().find(|(run, ..)| *run == name) {
        return runs::run(name, *stages, matches);
    }
    match name {
        "eval" => models::eval(matches),
        "predict" => models::predict(matches),
        "summary" => models::summary(matches),
        "adapt" => adapt::run(matches),
        "methods" => methods::run(matches),
        "data" => data::run(matches),
        "doctor" => doctor::run(matches),
        "bench" => bench::run(matches),
        "gradcheck" => check::gradcheck(matches),
        "conformance" => check::conformance(matches),
        other => unreachable!("clap knows no subcommand {other}"),
    }
}

/// `--device NAME`, for the commands that are not runs.
pub fn device_arg(default: &'static str) -> Arg {
    let help = "cpu, cuda:0 (or another number), auto (a GPU if there is one), emulator, or reference";
    Arg::new("device").long("device").value_name("NAME").default_value(default).help(help)
}

/// The device that [`device_arg`] was given.
pub fn device_of(matches: &ArgMatches) -> Result<Device> {
    open_device(matches.get_one::<String>("device").expect("has a default"))
}

/// `--precision NAME`, for the same commands.
pub fn precision_arg() -> Arg {
    let help = "what convolutions and products round their operands to: f32, or tf32, bf16 or f16 for tensor cores (a cpu is no faster for it)";
    Arg::new("precision").long("precision").value_name("NAME").default_value("f32").help(help)
}

/// From now on computes in the precision that [`precision_arg`] was given.
pub fn choose_precision(matches: &ArgMatches, device: Device) -> Result<()> {
    let name = matches.get_one::<String>("precision").expect("has a default");
    precision::choose(Precision::named(name)?, device)
}

/// A file or folder that a command needs.
pub fn path_arg(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(value).help(help).required(true).value_parser(value_parser!(PathBuf))
}
