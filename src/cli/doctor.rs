//! `doctor`: what this machine has, and what to do about what is missing.

use super::output::{bytes, paint, Style};
use crate::error::Result;
use crate::machine::{KernelFacts, Machine};
use clap::{ArgMatches, Command};

/// The `doctor` subcommand.
pub fn command() -> Command {
    Command::new("doctor")
        .about("Processor, GPUs, driver, how the CUDA kernels got in, and what to do about anything missing")
}

/// Carries out `doctor`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    let machine = Machine::look();
    match matches.get_flag("json") {
        true => println!("{}", serde_json::to_string(&machine).expect("plain values")),
        false => print(&machine),
    }
    Ok(())
}

fn print(machine: &Machine) {
    let row = |name: &str, value: String| println!("{name:<14} {value}");
    row("kdengine", env!("CARGO_PKG_VERSION").to_string());
    row("processor", machine.processor.clone());
    let sets = machine.instruction_sets.join(", ");
    row("instructions", format!("{} in use; available: {sets}", machine.instruction_set));
    row("threads", machine.threads.to_string());
    row("memory", machine.memory.map_or("unknown".to_string(), |memory| bytes(memory as usize)));
    row("driver", machine.driver.clone().unwrap_or_else(|reason| format!("none: {reason}")));
    match machine.gpus.is_empty() {
        true => row("GPUs", "none".to_string()),
        false => machine.gpus.iter().for_each(|gpu| {
            let (capability, memory) = (&gpu.capability, bytes(gpu.memory as usize));
            let text = format!(
                "{}, compute capability {capability}, {memory}, {} multiprocessors",
                gpu.name, gpu.multiprocessors
            );
            row(&gpu.device, text);
        }),
    }
    row(
        "CUDA kernels",
        match &machine.kernels {
            KernelFacts::Built { targets } => format!("built in for {}", targets.join(", ")),
            KernelFacts::RunTime { nvrtc } => format!("compiled at their first use by nvrtc {nvrtc}"),
            KernelFacts::Absent { reason } => format!("not usable: {reason}"),
        },
    );
    row(
        "emulator",
        if machine.emulator { "built in (--device emulator)" } else { "not built in (feature `emulator`)" }.to_string(),
    );
    row("cache", machine.cache.as_ref().map_or("none".to_string(), |folder| folder.display().to_string()));
    match machine.advice.is_empty() {
        true => println!("\n{}", paint(Style::Good, "Nothing is missing.")),
        false => {
            println!();
            machine.advice.iter().for_each(|advice| println!("- {advice}"));
        }
    }
}
