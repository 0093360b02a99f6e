//! The build step of the GPU's kernels: compiles every file in `kernels/` to machine code and PTX, and writes tables of these and of the
//! sources for the library to include. Used by the build script. Without nvrtc only the sources are embedded, and compiled at run time.
//! Images are compressed to a quarter of their size.

use crate::nvrtc::{Nvrtc, Source, Target, HOW_TO_INSTALL, MACHINES, VARIABLE};
use flate2::write::ZlibEncoder;
use flate2::Compression;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Compiles what has changed and writes `kernels.rs`.
///
/// A kernel that does not compile ends the build with the compiler's message.
pub fn build() {
    for variable in [VARIABLE, "CUDA_PATH", "CUDA_HOME", "VIRTUAL_ENV"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed=kernels");
    for file in ["embed.rs", "nvrtc.rs"] {
        println!("cargo::rerun-if-changed=src/backend/cuda/{file}");
    }
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("set by cargo"));
    let (sources, headers) = (files("cu"), files("cuh"));
    let images = match Nvrtc::load() {
        Ok(nvrtc) => compile_all(&nvrtc, &sources, &headers, &out.join("cuda")),
        Err(reason) => {
            println!(
                "cargo::warning=CUDA kernels will be compiled at their first use on a GPU: {reason}; {HOW_TO_INSTALL}"
            );
            Vec::new()
        }
    };
    fs::write(out.join("kernels.rs"), tables(&sources, &headers, &images)).expect("the build folder is writable");
}

/// A kernel file or a header: its path, its name and its contents.
struct File {
    path: PathBuf,
    name: String,
    text: String,
}

impl File {
    fn source(&self) -> Source<'_> {
        Source { name: &self.name, text: &self.text }
    }
}

/// An image that the library embeds.
struct Image {
    file: String,
    target: Target,
    path: PathBuf,
}

fn files(extension: &str) -> Vec<File> {
    let entries = fs::read_dir("kernels").expect("the crate has kernels");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == extension));
    paths.sort();
    let file = |path: PathBuf| File {
        name: path.file_name().expect("a file").to_string_lossy().into_owned(),
        text: fs::read_to_string(&path).expect("readable"),
        path: path.canonicalize().expect("it was just listed"),
    };
    paths.into_iter().map(file).collect()
}

fn compile_all(nvrtc: &Nvrtc, sources: &[File], headers: &[File], cache: &Path) -> Vec<Image> {
    fs::create_dir_all(cache).expect("the build folder is writable");
    let capability = |target: &Target| match *target {
        Target::Machine { capability, .. } | Target::Ptx { capability } => capability,
    };
    let machines: Vec<Target> = MACHINES.into_iter().filter(|target| nvrtc.knows(*target)).collect();
    // PTX of the lowest for GPUs in between, of the highest for those to come.
    let ends = [machines.iter().map(capability).min(), machines.iter().map(capability).max()];
    let ptx = ends.into_iter().flatten().map(|capability| Target::Ptx { capability });
    let targets: Vec<Target> = machines.iter().copied().chain(ptx).collect();
    let headers: Vec<Source> = headers.iter().map(File::source).collect();
    let all: Vec<(&File, Target)> =
        sources.iter().flat_map(|source| targets.iter().map(move |&t| (source, t))).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(&(source, target)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(compile(nvrtc, source, &headers, target, cache));
        }
        done
    };
    let mut images: Vec<Image> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("compilers do not panic")).collect()
    });
    images.sort_by_key(|image| (image.file.clone(), image.target.to_string()));
    images
}

/// Compiles one file for one target, unless the very same was compiled before.
fn compile(nvrtc: &Nvrtc, source: &File, headers: &[Source], target: Target, cache: &Path) -> Image {
    let mut hash = DefaultHasher::new();
    (nvrtc.version, target, &source.text).hash(&mut hash);
    headers.iter().for_each(|header| (header.name, header.text).hash(&mut hash));
    let path = cache.join(format!("{}-{target}-{:016x}.zlib", source.name, hash.finish()));
    if !path.exists() {
        match nvrtc.compile(source.source(), headers, target) {
            Ok(image) => {
                // Renamed when whole: a build that is stopped leaves no half of an image behind.
                let partial = cache.join(format!("{}-{target}.partial", source.name));
                fs::write(&partial, compressed(&image)).expect("the build folder is writable");
                fs::rename(&partial, &path).expect("the build folder is writable");
            }
            Err(log) => {
                eprintln!("{} for {target}:\n{log}", source.path.display());
                std::process::exit(1);
            }
        }
    }
    Image { file: source.name.clone(), target, path }
}

fn compressed(image: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(image).and_then(|()| encoder.finish()).expect("memory can be written")
}

fn tables(sources: &[File], headers: &[File], images: &[Image]) -> String {
    let mut text = String::new();
    for (table, files) in [("SOURCES", sources), ("HEADERS", headers)] {
        writeln!(text, "static {table}: &[Source] = &[").expect("strings grow");
        for file in files {
            writeln!(text, "    Source {{ name: {:?}, text: include_str!({:?}) }},", file.name, file.path)
                .expect("strings grow");
        }
        text.push_str("];\n");
    }
    text.push_str("static IMAGES: &[Embedded] = &[\n");
    for Image { file, target, path } in images {
        writeln!(
            text,
            "    Embedded {{ file: {file:?}, target: Target::{target:?}, compressed: include_bytes!({path:?}) }},"
        )
        .expect("strings grow");
    }
    text.push_str("];\n");
    text
}
