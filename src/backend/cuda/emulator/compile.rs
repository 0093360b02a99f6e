//! The build step of the emulator: compiles the kernels with the C++ compiler against `device.cuh` of this folder, and makes a table of
//! them. Used by the build script.

use std::fs;
use std::path::{Path, PathBuf};

/// Where this file and its C++ headers are, from the root of the crate.
const HERE: &str = "src/backend/cuda/emulator";

/// Compiles every kernel in `kernels/` and the planted bugs into a static library, and writes `emulated.rs`, which names their tables.
pub fn build() {
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("set by cargo")).join("emulator");
    fs::create_dir_all(&out).expect("the build folder is writable");
    let here = Path::new(HERE);
    // Headers are looked for beside the file that includes them first, so all of them go to one folder; ours replace those of the GPU.
    files("kernels", "cuh").iter().for_each(|header| copy(header, &out));
    ["cluster.cuh", "device.cuh", "hopper.cuh", "registry.h"].iter().for_each(|name| copy(&here.join(name), &out));
    let mut sources = files("kernels", "cu");
    sources.push(here.join("broken.cu"));
    let units: Vec<String> = sources.iter().map(|source| unit(source, &out)).collect();
    let mut build = compiler();
    units.iter().for_each(|unit| {
        build.file(out.join(format!("{unit}.cpp")));
    });
    // Hooks before every access to memory; the emulator defines them.
    build.flag("-fsanitize=thread").compile("emulated_kernels");
    compiler().include(&out).file(here.join("place.cpp")).compile("emulated_place");
    let declaration =
        |unit: &String| format!("    static {unit}_kernels: EmulatedKernel;\n    static {unit}_count: usize;\n");
    let entry = |unit: &String| format!("        unsafe {{ (&raw const {unit}_kernels, {unit}_count) }},\n");
    let table = format!(
        "#[allow(non_upper_case_globals)]\nunsafe extern \"C\" {{\n{}}}\n\
         fn tables() -> Vec<(*const EmulatedKernel, usize)> {{\n    vec![\n{}    ]\n}}\n",
        units.iter().map(declaration).collect::<String>(),
        units.iter().map(entry).collect::<String>()
    );
    fs::write(out.join("emulated.rs"), table).expect("the build folder is writable");
    println!("cargo::rerun-if-changed={HERE}");
    println!("cargo::rerun-if-changed=kernels");
}

fn compiler() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).warnings(false);
    // Strict arithmetic: what is compared with the CPU must not depend on the compiler's taste.
    build.flag("-ffp-contract=off").flag("-fno-exceptions").flag("-fno-rtti").flag("-Wno-tsan");
    build
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the crate has this folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == extension));
    files.sort();
    files
}

fn copy(file: &Path, folder: &Path) {
    let text = fs::read_to_string(file).expect("readable");
    let whole = format!("#line 1 \"{}\"\n{text}", file.canonicalize().expect("it was just read").display());
    fs::write(folder.join(file.file_name().expect("a file")), whole).expect("the build folder is writable");
}

/// Writes the C++ file that compiles a kernel file and ends with the table of its kernels; returns its name.
fn unit(source: &Path, out: &Path) -> String {
    let name = source.file_stem().expect("a file").to_string_lossy().into_owned();
    copy(source, out);
    let scan = out.join(format!("{name}.scan.cpp"));
    fs::write(&scan, format!("#define EMULATOR_SCAN\n#include \"{name}.cu\"\n")).expect("the build folder is writable");
    let mut compiler = compiler();
    let expanded = compiler.file(&scan).expand();
    let entries: Vec<String> = kernels(&String::from_utf8_lossy(&expanded))
        .into_iter()
        .map(|(kernel, bound, cluster)| format!("    EMULATED_ENTRY({kernel}, {bound}, {cluster}),\n"))
        .collect();
    assert!(!entries.is_empty(), "{} has no kernel", source.display());
    // In a namespace of its own, so that helpers of the same name in two files do not meet.
    let text = format!(
        "#include \"device.cuh\"\n#include <iterator>\n#include \"registry.h\"\nnamespace {{\n#include \"{name}.cu\"\n}}\n\
         extern \"C\" {{\nextern const EmulatedKernel {name}_kernels[];\nextern const size_t {name}_count;\n\
         const EmulatedKernel {name}_kernels[] = {{\n{}}};\nconst size_t {name}_count = std::size({name}_kernels);\n}}\n",
        entries.concat()
    );
    fs::write(out.join(format!("{name}.cpp")), text).expect("the build folder is writable");
    name
}

/// The kernels of a preprocessed file, with the most threads that a block may have, and the blocks of a cluster:
/// `EMULATED_KERNEL void EMULATED_CLUSTER(8, 1, 1) EMULATED_BOUNDS(256) name(`.
fn kernels(expanded: &str) -> Vec<(String, u32, &str)> {
    fn kernel(text: &str) -> Option<(String, u32, &str)> {
        let (before, after) = text.split_once("EMULATED_BOUNDS(")?;
        let cluster = before.split_once("EMULATED_CLUSTER(").and_then(|(_, sizes)| sizes.split(',').next());
        let (bounds, rest) = after.split_once(')')?;
        let bound = bounds.split(',').next()?.trim().parse().ok()?;
        Some((rest.split_once('(')?.0.trim().to_string(), bound, cluster.unwrap_or("1")))
    }
    let starts = expanded.split("EMULATED_KERNEL").skip(1);
    starts.map(|text| kernel(text).expect("a kernel has __launch_bounds__ and a name")).collect()
}
