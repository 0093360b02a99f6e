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

/// Code that a kernel has, each once wherever it stands.
#[derive(Clone, Copy, Debug, Default)]
struct Code {
    threads: u32,
    all: u32,
    products: u32,
    matrix_loads: u32,
    copies: u32,
}

impl Code {
    /// Counts them in machine code. An instruction has 16 bytes from sm_70 on, the lowest 12 bits say which one it is.
    fn count(code: &[u8]) -> Code {
        let mut counts = Code::default();
        for instruction in code.chunks_exact(16) {
            counts.all += 1;
            match u16::from_le_bytes([instruction[0], instruction[1]]) & 0xfff {
                0x23c => counts.products += 1,     // HMMA
                0x83b => counts.matrix_loads += 1, // LDSM
                0xfae => counts.copies += 1,       // LDGSTS
                _ => {}
            }
        }
        counts
    }

    /// The code of every kernel in an ELF file: the sections `.text.<kernel>` and `.nv.info.<kernel>`.
    fn of_kernels(elf: &[u8]) -> BTreeMap<String, Code> {
        let number = |at: usize, bytes: usize| (0..bytes).rev().fold(0, |n, i| n << 8 | usize::from(elf[at + i]));
        let (sections, size, count, names) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2), number(0x3e, 2));
        // Where a section's header, its contents and its name lie.
        let header = |i: usize| sections + i * size;
        let contents = |i: usize| &elf[number(header(i) + 0x18, 8)..][..number(header(i) + 0x20, 8)];
        let name = |i: usize| {
            let name = &contents(names)[number(header(i), 4)..];
            String::from_utf8_lossy(name.split(|&byte| byte == 0).next().unwrap()).into_owned()
        };
        let named =
            |prefix| (0..count).filter_map(move |i| Some((name(i).strip_prefix(prefix)?.to_string(), contents(i))));
        let mut kernels: BTreeMap<String, Code> =
            named(".text.").map(|(kernel, code)| (kernel, Code::count(code))).collect();
        for (kernel, info) in named(".nv.info.") {
            kernels.entry(kernel).or_default().threads = Code::launch_bound(info);
        }
        kernels
    }

    /// The launch bound among a kernel's attributes: a format, a name, and a value of 2 bytes or, in format 4, of so many.
    fn launch_bound(info: &[u8]) -> u32 {
        const SIZED: u8 = 4;
        const MAX_THREADS: u8 = 5;
        let mut rest = info;
        while let [format, name, low, high, after @ ..] = rest {
            let size = if *format == SIZED { usize::from(u16::from_le_bytes([*low, *high])) } else { 0 };
            if *name == MAX_THREADS {
                return u32::from_le_bytes(after[..4].try_into().unwrap());
            }
            rest = &after[size..];
        }
        panic!("every kernel has a launch bound")
    }
}

type Table = BTreeMap<(String, String), [(Resources, Code); TARGETS.len()]>;

fn compile_all(nvrtc: &Nvrtc) -> Table {
    let compile = |source: &Source, target: Target| {
        let compiled = nvrtc.compile(*source, headers(), target, &[REPORT_RESOURCES]);
        let compiled = compiled.unwrap_or_else(|log| panic!("{} for {target}: {log}", source.name));
        let mut instructions = Code::of_kernels(&compiled.image);
        let with_instructions = |(kernel, used)| {
            let counts = instructions.remove(&kernel).expect("every kernel has code");
            (kernel, (used, counts))
        };
        resources(&compiled.log).into_iter().map(with_instructions).collect::<BTreeMap<_, _>>()
    };
    let mut table = Table::new();
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

/// What every kernel uses.
fn resources_table(table: &Table) -> String {
    let head = "| file | kernel | registers (sm_80, sm_90a, sm_120) | shared memory, bytes | spills |\n| --- | --- | --- | --- | --- |\n";
    let row = |((file, kernel), used): (&(String, String), &[(Resources, Code); TARGETS.len()])| {
        let registers = used.map(|(used, _)| used.registers.to_string()).join(", ");
        let shared = used.iter().map(|(used, _)| used.shared).max().unwrap();
        format!("| {file} | `{kernel}` | {registers} | {shared} | 0 |\n")
    };
    table.iter().map(row).fold(head.to_string(), |text, row| text + &row)
}

/// What the kernels on tensor cores consist of, for sm_90a, and how many of them fit a multiprocessor.
fn tensor_core_table(table: &Table) -> String {
    let head = "| kernel | mma | ldmatrix | cp.async | all instructions | blocks (sm_80, sm_90a) | warps, of 64 |\n\
                | --- | --- | --- | --- | --- | --- | --- |\n";
    let row = |((_, kernel), used): (&(String, String), &[(Resources, Code); TARGETS.len()])| {
        let Code { threads, all, products, matrix_loads, copies } = used[1].1;
        let blocks =
            [(used[0].0, 164), (used[1].0, 228)].map(|(used, kib)| blocks_at_once(used, threads / 32, kib << 10));
        let (both, warps) =
            (blocks.map(|n| n.to_string()).join(", "), blocks.map(|n| (threads / 32 * n).to_string()).join(", "));
        format!("| `{kernel}` | {products} | {matrix_loads} | {copies} | {all} | {both} | {warps} |\n")
    };
    let on_tensor_cores = table.iter().filter(|(_, used)| used[1].1.products > 0);
    on_tensor_cores.map(row).fold(head.to_string(), |text, row| text + &row)
}

/// How many blocks of so many warps fit a multiprocessor with 65,536 registers, 64 warps and so much shared memory, of which each block takes
/// 1 KiB more than it asks for. A warp gets registers in units of 256.
fn blocks_at_once(used: Resources, warps: u32, shared: u32) -> u32 {
    let registers = warps * (32 * used.registers).next_multiple_of(256);
    (65_536 / registers).min(shared / (used.shared + 1024)).min(64 / warps)
}

#[test]
fn no_kernel_spills_and_the_documentation_says_what_each_uses() {
    let nvrtc = match Nvrtc::load() {
        Ok(nvrtc) => nvrtc,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let table = compile_all(&nvrtc);
    for ((file, kernel), used) in &table {
        assert_eq!(file_of(kernel), Some(file.as_str()), "{kernel} is looked for in the file that defines it");
        let spilled = used.map(|(used, _)| used.spilled);
        assert_eq!(spilled, [0; TARGETS.len()], "{kernel} in {file} spills registers to memory");
        let on_tensor_cores = kernel.ends_with("_tf32") || kernel.ends_with("_bf16");
        let products = used.map(|(_, counts)| counts.products > 0);
        assert_eq!(products, [on_tensor_cores; TARGETS.len()], "{kernel} in {file} multiplies where its name says");
    }
    let both = [resources_table(&table), tensor_core_table(&table)].join("\n### Tensor cores\n\n");
    let rows = format!("{BEGIN}\n\n{both}\n{END}");
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
