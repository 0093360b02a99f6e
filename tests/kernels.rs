//! Every kernel compiles for the GPUs that matter, keeps its variables in registers, and uses what `docs/kernels.md` says.
#![cfg(feature = "cuda")]

use kdengine::backend::cuda::binaries::{file_of, headers, sources};
use kdengine::backend::cuda::nvrtc::{Nvrtc, Source, Target, REPORT_RESOURCES};
use std::collections::BTreeMap;
use std::path::Path;

const TARGETS: [Target; 3] = [
    Target::Machine { capability: 80, specific: false },
    Target::Machine { capability: 90, specific: true },
    Target::Machine { capability: 120, specific: false },
];

/// What a kernel uses on one GPU.
#[derive(Clone, Copy, Debug, Default)]
struct Resources {
    registers: u32,
    spilled: u32,
    shared: u32,
}

/// What the compiler's log says of each kernel.
fn resources(log: &str) -> BTreeMap<String, Resources> {
    let mut kernels = BTreeMap::new();
    let mut current = String::new();
    // The number before a word, as in `29 registers`.
    let before =
        |line: &str, word: &str| -> Option<u32> { line.split(word).next()?.split_whitespace().last()?.parse().ok() };
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("entry function '") {
            current = rest.split('\'').next().unwrap().to_string();
            continue;
        }
        let kernel: &mut Resources = kernels.entry(current.clone()).or_default();
        if line.contains("spill stores") {
            kernel.spilled = before(line, " bytes spill stores").unwrap() + before(line, " bytes spill loads").unwrap();
        }
        if line.contains(" registers") {
            kernel.registers = before(line, " registers").unwrap();
            kernel.shared = if line.contains(" bytes smem") { before(line, " bytes smem").unwrap() } else { 0 };
        }
    }
    kernels.retain(|name, kernel| !name.is_empty() && kernel.registers > 0);
    kernels
}

fn compile_all(nvrtc: &Nvrtc) -> BTreeMap<(String, String), [Resources; TARGETS.len()]> {
    let compile = |source: &Source, target: Target| {
        let compiled = nvrtc.compile(*source, headers(), target, &[REPORT_RESOURCES]);
        resources(&compiled.unwrap_or_else(|log| panic!("{} for {target}: {log}", source.name)).log)
    };
    let mut table: BTreeMap<(String, String), [Resources; TARGETS.len()]> = BTreeMap::new();
    for source in sources() {
        let of_targets = std::thread::scope(|scope| {
            TARGETS.map(|target| scope.spawn(move || compile(source, target))).map(|thread| thread.join().unwrap())
        });
        for (i, kernels) in of_targets.into_iter().enumerate() {
            for (kernel, used) in kernels {
                table.entry((source.name.to_string(), kernel)).or_default()[i] = used;
            }
        }
    }
    table
}

const BEGIN: &str = "<!-- resources: begin (written by `KDENGINE_BLESS=1 cargo test --release --test kernels`) -->";
const END: &str = "<!-- resources: end -->";

#[test]
fn no_kernel_spills_and_the_documentation_says_what_each_uses() {
    let nvrtc = match Nvrtc::load() {
        Ok(nvrtc) => nvrtc,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let table = compile_all(&nvrtc);
    let mut rows = format!("{BEGIN}\n\n| file | kernel | registers (sm_80, sm_90a, sm_120) | shared memory, bytes | spills |\n| --- | --- | --- | --- | --- |\n");
    for ((file, kernel), used) in &table {
        assert_eq!(file_of(kernel), Some(file.as_str()), "{kernel} is looked for in the file that defines it");
        let registers = used.map(|used| used.registers.to_string()).join(", ");
        let (shared, spilled) = (used.map(|used| used.shared), used.map(|used| used.spilled));
        assert_eq!(spilled, [0; TARGETS.len()], "{kernel} in {file} spills registers to memory");
        let shared = shared.into_iter().max().unwrap();
        rows += &format!("| {file} | `{kernel}` | {registers} | {shared} | 0 |\n");
    }
    rows += &format!("\n{END}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kernels.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the table's place is marked");
    let (_, after) = rest.split_once(END).expect("the table's end is marked");
    if std::env::var_os("KDENGINE_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{rows}{after}")).unwrap();
    } else if nvrtc.version.0 != 13 {
        eprintln!("skipped: docs/kernels.md was written with nvrtc 13, this is {:?}", nvrtc.version);
    } else {
        assert!(text.contains(&rows), "docs/kernels.md is out of date; run the test with KDENGINE_BLESS=1");
    }
}

#[test]
fn a_mistake_in_a_kernel_is_reported_with_file_and_line() {
    let nvrtc = match Nvrtc::load() {
        Ok(nvrtc) => nvrtc,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let source =
        Source { name: "broken.cu", text: "#include \"common.cuh\"\n\nextern \"C\" __global__ void f() { oops; }\n" };
    let log = nvrtc.compile(source, headers(), TARGETS[0], &[]).err().unwrap();
    assert!(log.contains("broken.cu(3)") && log.contains("oops"), "{log}");
}
