//! Every kernel compiles for the GPUs that matter, keeps its variables in registers, and uses what `docs/kernels.md` says.
#![cfg(feature = "cuda")]

use kdengine::backend::cuda::binaries::{file_of, headers, image, origin, sources, Origin};
use kdengine::backend::cuda::nvrtc::{Nvrtc, Source, Target};
use std::collections::BTreeMap;
use std::path::Path;

/// Compute capabilities.
const HOPPER: u32 = 90;
const TARGETS: [u32; 3] = [80, HOPPER, 120];

/// What a kernel uses on one GPU, and code that it has, each once wherever it stands. Nothing where it does not exist.
#[derive(Clone, Copy, Debug, Default)]
struct Machine {
    registers: u32,
    shared: u32,
    local: u32,
    threads: u32,
    all: u32,
    /// From global memory to registers: of up to 4 bytes, of 8, of 16.
    loads: [u32; 3],
    products: u32,
    warpgroup_products: u32,
    warpgroup_waits: u32,
    matrix_loads: u32,
    copies: u32,
    bulk_copies: u32,
}

impl Machine {
    fn exists(&self) -> bool {
        self.all > 0
    }

    /// Counts machine code. An instruction has 16 bytes from sm_70 on, the lowest 12 bits say which one it is.
    fn count(&mut self, code: &[u8]) {
        for instruction in code.chunks_exact(16) {
            self.all += 1;
            match u16::from_le_bytes([instruction[0], instruction[1]]) & 0xfff {
                0x381 | 0x981 => self.loads[width_of_load(instruction)] += 1, // LDG
                0x23c => self.products += 1,                                  // HMMA
                0x9f0 => self.warpgroup_products += 1,                        // HGMMA
                0x9c5 => self.warpgroup_waits += 1,                           // WARPGROUP: before and behind a group
                0x83b => self.matrix_loads += 1,                              // LDSM
                0xfae => self.copies += 1,                                    // LDGSTS
                0x3ba => self.bulk_copies += 1,                               // UBLKCP
                _ => {}
            }
        }
    }

    /// Every kernel in an ELF file: sections `.text.<kernel>`, `.nv.shared.<kernel>`, `.nv.info.<kernel>`, and `.nv.info` for all. From
    /// sm_90 on the size of shared memory includes the KiB that a block takes more than it asks for.
    fn of_kernels(elf: &[u8]) -> BTreeMap<String, Machine> {
        let number = |at: usize, bytes: usize| (0..bytes).rev().fold(0, |n, i| n << 8 | usize::from(elf[at + i]));
        let (sections, size, count, names) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2), number(0x3e, 2));
        let header = |i: usize| sections + i * size;
        let (place, bytes) = (|i: usize| number(header(i) + 0x18, 8), |i: usize| number(header(i) + 0x20, 8));
        let contents = |i: usize| &elf[place(i)..][..bytes(i)];
        let text = |at: &[u8]| String::from_utf8_lossy(at.split(|&byte| byte == 0).next().unwrap()).into_owned();
        let name = |i: usize| text(&contents(names)[number(header(i), 4)..]);
        let find = |wanted: &str| (1..count).find(|&i| name(i) == wanted);
        let called = |wanted: &str| find(wanted).expect("the section is there");
        const RESERVED: &str = ".nv.shared.reserved.0";
        let reserved = if find(RESERVED).is_some() { 1024 } else { 0 };
        let symbol = |index: u32| {
            let at = number(place(called(".symtab")) + 24 * index as usize, 4);
            text(&contents(called(".strtab"))[at..])
        };
        let mut kernels = BTreeMap::<String, Machine>::new();
        for i in (1..count).filter(|&i| name(i) != RESERVED) {
            let name = name(i);
            let mut kernel =
                |kernel: &str, note: &dyn Fn(&mut Machine)| note(kernels.entry(kernel.to_string()).or_default());
            if let Some(of) = name.strip_prefix(".text.") {
                kernel(of, &|kernel| kernel.count(contents(i)));
            } else if let Some(of) = name.strip_prefix(".nv.shared.") {
                kernel(of, &|kernel| kernel.shared = (bytes(i) - reserved) as u32);
            } else if let Some(of) = name.strip_prefix(".nv.info.") {
                kernel(of, &|kernel| kernel.threads = attributes(contents(i), MAX_THREADS)[0][0]);
            } else if name == ".nv.info" {
                for of_symbol in attributes(contents(i), REGISTERS) {
                    kernel(&symbol(of_symbol[0]), &|kernel| kernel.registers = of_symbol[1]);
                }
                for of_symbol in attributes(contents(i), FRAME_SIZE) {
                    kernel(&symbol(of_symbol[0]), &|kernel| kernel.local = of_symbol[1]);
                }
            }
        }
        kernels.retain(|_, kernel| kernel.exists());
        kernels
    }
}

/// Bits 73 to 75 of a load say how much it loads.
fn width_of_load(instruction: &[u8]) -> usize {
    match instruction[9] >> 1 & 7 {
        6 => 2,
        5 => 1,
        _ => 0,
    }
}

/// A kernel's launch bound; a symbol and its registers; a symbol and the bytes of its frame in local memory.
const MAX_THREADS: u8 = 5;
const REGISTERS: u8 = 0x2f;
const FRAME_SIZE: u8 = 0x11;

/// The values of all attributes of a name: each is a format, a name, and a value of 2 bytes or, in format 4, of so many.
fn attributes(info: &[u8], wanted: u8) -> Vec<Vec<u32>> {
    const SIZED: u8 = 4;
    let (mut found, mut rest) = (Vec::new(), info);
    while let [format, name, low, high, after @ ..] = rest {
        let size = if *format == SIZED { usize::from(u16::from_le_bytes([*low, *high])) } else { 0 };
        if *name == wanted {
            found
                .push(after[..size].chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect());
        }
        rest = &after[size..];
    }
    found
}

type Table = BTreeMap<(String, String), [Machine; TARGETS.len()]>;

/// The kernels that were compiled when the library was built.
fn all_kernels() -> Table {
    let mut table = Table::new();
    for source in sources() {
        for (i, capability) in TARGETS.into_iter().enumerate() {
            for (kernel, machine) in Machine::of_kernels(&image(source.name, capability).unwrap()) {
                table.entry((source.name.to_string(), kernel)).or_default()[i] = machine;
            }
        }
    }
    table
}

const BEGIN: &str = "<!-- resources: begin (written by `KDENGINE_BLESS=1 cargo test --release --test kernels`) -->";
const END: &str = "<!-- resources: end -->";

/// A number, or a dash where the kernel does not exist.
fn or_dash(number: u32, exists: bool) -> String {
    if exists {
        number.to_string()
    } else {
        "–".to_string()
    }
}

/// What every kernel uses, its loads on sm_90a, and how many warps of it fit a multiprocessor.
fn resources_table(table: &Table) -> String {
    let head = "| file | kernel | registers (sm_80, sm_90a, sm_120) | shared memory, bytes | loads of 4, 8, 16 bytes | warps, of 64 (sm_80, sm_90a) |\n\
                | --- | --- | --- | --- | --- | --- |\n";
    let row = |((file, kernel), machines): (&(String, String), &[Machine; TARGETS.len()])| {
        let registers = machines.map(|machine| or_dash(machine.registers, machine.exists())).join(", ");
        let shared = machines.iter().map(|machine| machine.shared).max().unwrap();
        let loads = machines[1].loads.map(|count| count.to_string()).join(", ");
        let warps = on_both(machines, |machine, shared| machine.threads / 32 * blocks_at_once(machine, shared));
        format!("| {file} | `{kernel}` | {registers} | {shared} | {loads} | {warps} |\n")
    };
    table.iter().map(row).fold(head.to_string(), |text, row| text + &row)
}

/// What the kernels on tensor cores consist of, for sm_90a, and how many of them fit a multiprocessor.
fn tensor_core_table(table: &Table) -> String {
    let head = "| kernel | mma, wgmma | ldmatrix | cp.async, in bulk | all instructions | blocks (sm_80, sm_90a) |\n\
                | --- | --- | --- | --- | --- | --- |\n";
    let row = |((_, kernel), machines): (&(String, String), &[Machine; TARGETS.len()])| {
        let Machine { all, products, warpgroup_products, matrix_loads, copies, bulk_copies, .. } = machines[1];
        let blocks = on_both(machines, blocks_at_once);
        format!("| `{kernel}` | {products}, {warpgroup_products} | {matrix_loads} | {copies}, {bulk_copies} | {all} | {blocks} |\n")
    };
    let on_tensor_cores = |machine: &Machine| machine.products + machine.warpgroup_products > 0;
    let rows = table.iter().filter(|(_, machines)| on_tensor_cores(&machines[1]));
    rows.map(row).fold(head.to_string(), |text, row| text + &row)
}

/// Something on multiprocessors of sm_80 and sm_90a, which have so much shared memory.
fn on_both(machines: &[Machine; TARGETS.len()], of: fn(&Machine, u32) -> u32) -> String {
    let text = |(machine, kib): (&Machine, u32)| or_dash(of(machine, kib << 10), machine.exists());
    machines.iter().zip([164, 228]).map(text).collect::<Vec<_>>().join(", ")
}

/// How many blocks fit a multiprocessor with 65,536 registers, 64 warps and so much shared memory, of which each block takes 1 KiB more than
/// it asks for. A warp gets registers in units of 256. None where the kernel does not exist.
fn blocks_at_once(machine: &Machine, shared: u32) -> u32 {
    let warps = machine.threads / 32;
    let registers = warps * (32 * machine.registers).next_multiple_of(256);
    let by_registers = 65_536u32.checked_div(registers).unwrap_or(0);
    by_registers.min(shared / (machine.shared + 1024)).min(64u32.checked_div(warps).unwrap_or(0))
}

#[test]
fn no_kernel_keeps_variables_in_memory_and_the_documentation_says_what_each_uses() {
    if !matches!(origin(), Origin::Built(_)) {
        return eprintln!("skipped: the kernels were not compiled when this was built");
    }
    let table = all_kernels();
    for ((file, kernel), machines) in &table {
        assert_eq!(file_of(kernel), Some(file.as_str()), "{kernel} is looked for in the file that defines it");
        // A sine in double precision keeps a path for huge numbers there, which `normal` never takes.
        let local = if kernel == "normal" { 40 } else { 0 };
        assert!(machines.iter().all(|machine| machine.local <= local), "{kernel} in {file} keeps variables in memory");
        let (by_warpgroups, by_clusters) = (kernel.contains("_wgmma_"), kernel.ends_with("_cluster"));
        let exists = machines.map(|machine| machine.exists());
        let expected = TARGETS.map(|target| (!by_warpgroups || target == HOPPER) && (!by_clusters || target >= HOPPER));
        assert_eq!(exists, expected, "{kernel} in {file}");
        let multiplies = machines.map(|machine| [machine.products > 0, machine.warpgroup_products > 0]);
        let by_warps = !by_warpgroups && ["_tf32", "_bf16", "_f16"].iter().any(|format| kernel.ends_with(format));
        let expected = TARGETS.map(|target| [by_warps, by_warpgroups && target == HOPPER]);
        assert_eq!(multiplies, expected, "{kernel} in {file} multiplies where its name says");
        // Three groups of products; a compiler that finds them unsafe would wait for each.
        let waits = if by_warpgroups { 6 } else { 0 };
        assert_eq!(machines[1].warpgroup_waits, waits, "{kernel} in {file} waits for products where it says");
    }
    let both = [resources_table(&table), tensor_core_table(&table)].join("\n### Tensor cores\n\n");
    let rows = format!("{BEGIN}\n\n{both}\n{END}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kernels.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the table's place is marked");
    let (_, after) = rest.split_once(END).expect("the table's end is marked");
    if std::env::var_os("KDENGINE_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{rows}{after}")).unwrap();
    } else if Nvrtc::load().is_ok_and(|nvrtc| nvrtc.version.0 != 13) {
        eprintln!("skipped: docs/kernels.md was written with nvrtc 13");
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
    let log =
        nvrtc.compile(source, headers(), Target::Machine { capability: TARGETS[0], specific: false }).err().unwrap();
    assert!(log.contains("broken.cu(3)") && log.contains("oops"), "{log}");
}
