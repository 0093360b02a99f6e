//! Which machine code a GPU gets: what was built in, else PTX for the driver to compile, else the source, compiled at run time and kept
//! on disk.

use super::nvrtc::{Nvrtc, Source, Target, HOW_TO_INSTALL, MACHINES};
use crate::error::{Error, Result};
use crate::folders;
use crate::tensor::io::write_atomically;
use flate2::read::ZlibDecoder;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::sync::OnceLock;

/// An image that was compiled when this program was built.
struct Embedded {
    file: &'static str,
    target: Target,
    /// By zlib.
    compressed: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// How the kernels got into this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Compiled at build time for these targets.
    Built(Vec<String>),
    /// As sources, to be compiled by this version of nvrtc at their first use.
    RunTime((i32, i32)),
    /// As sources, and there is no nvrtc to compile them: why.
    Absent(String),
}

/// How the kernels got into this program.
pub fn origin() -> Origin {
    let mut targets: Vec<String> = IMAGES.iter().map(|image| image.target.to_string()).collect();
    targets.sort();
    targets.dedup();
    match (targets.is_empty(), nvrtc()) {
        (false, _) => Origin::Built(targets),
        (true, Ok(nvrtc)) => Origin::RunTime(nvrtc.version),
        (true, Err(reason)) => Origin::Absent(reason.clone()),
    }
}

fn nvrtc() -> &'static Result<Nvrtc, String> {
    static NVRTC: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
    NVRTC.get_or_init(Nvrtc::load)
}

/// The kernel files, for those who compile them themselves.
pub fn sources() -> &'static [Source<'static>] {
    SOURCES
}

/// The headers of the kernel files.
pub fn headers() -> &'static [Source<'static>] {
    HEADERS
}

/// The file that defines a kernel.
pub fn file_of(kernel: &str) -> Option<&'static str> {
    let file = |completed: bool| {
        let defines = |name: Name| matches!(name, Name::Prefix(..)) == completed && name.matches(kernel);
        SOURCES.iter().find(|source| definitions(source.text).any(defines)).map(|source| source.name)
    };
    file(false).or_else(|| file(true))
}

/// What stands for a name where a kernel is defined.
enum Name<'a> {
    /// The name itself.
    Whole(&'a str),
    /// A name that a macro completes: its beginning, and how many underscores follow.
    Prefix(&'a str, usize),
    /// A name that is given to a macro: the text, whose lines give it.
    Given(&'a str),
}

impl Name<'_> {
    fn matches(&self, kernel: &str) -> bool {
        match self {
            Name::Whole(name) => *name == kernel,
            Name::Prefix(prefix, underscores) => {
                kernel.strip_prefix(prefix).is_some_and(|rest| rest.matches('_').count() == *underscores)
            }
            Name::Given(text) => text.lines().any(|line| {
                let given = line.split_once('(').and_then(|(_, rest)| rest.split_once(','));
                !line.starts_with(' ') && given.is_some_and(|(first, _)| first == kernel)
            }),
        }
    }
}

/// The kernels that a file defines: what follows `__launch_bounds__(…)`.
fn definitions(text: &str) -> impl Iterator<Item = Name<'_>> {
    text.split("__launch_bounds__(").skip(1).filter_map(move |after| {
        let (_, rest) = after.split_once(')')?;
        let (name, _) = rest.split_once('(')?;
        let name = name.trim_matches(|c: char| c.is_whitespace() || c == '\\');
        Some(match name.split_once("##") {
            Some((prefix, rest)) => Name::Prefix(prefix, rest.matches('_').count()),
            None if name == "NAME" => Name::Given(text),
            None => Name::Whole(name),
        })
    })
}

/// The image of a kernel file for a GPU of this compute capability.
///
/// # Errors
/// There is none, and it cannot be compiled here.
pub fn image(file: &'static str, capability: u32) -> Result<Vec<u8>> {
    let own: Vec<&Embedded> = IMAGES.iter().filter(|image| image.file == file).collect();
    let targets: Vec<Target> = own.iter().map(|image| image.target).collect();
    match choose(&targets, capability) {
        Some(at) => {
            let mut image = Vec::new();
            let read = ZlibDecoder::new(own[at].compressed).read_to_end(&mut image);
            let damaged =
                |e| Error::Device { op: "kernels", reason: format!("{file} is damaged in this program: {e}") };
            read.map(|_| image).map_err(damaged)
        }
        None => compile(file, capability),
    }
}

/// The best of the targets for a GPU: its own machine code, else that of the nearest older GPU of its generation, else the newest PTX
/// that it can run.
fn choose(targets: &[Target], capability: u32) -> Option<usize> {
    let rank = |target: &Target| match *target {
        Target::Machine { capability: own, .. } if own == capability => Some((2, own)),
        Target::Machine { capability: own, specific: false } if own / 10 == capability / 10 && own < capability => {
            Some((1, own))
        }
        Target::Ptx { capability: own } if own <= capability => Some((0, own)),
        _ => None,
    };
    let ranked = targets.iter().enumerate().filter_map(|(at, target)| Some((rank(target)?, at)));
    ranked.max().map(|(_, at)| at)
}

/// Stands for the text of all kernels.
pub(super) fn version() -> String {
    digest("", SOURCES.iter().chain(HEADERS))
}

fn digest<'a>(head: &str, files: impl Iterator<Item = &'a Source<'static>>) -> String {
    let mut hash = Sha256::new();
    hash.update(head);
    files.for_each(|file| hash.update(file.text));
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Compiles a kernel file, or takes what was compiled before.
fn compile(file: &'static str, capability: u32) -> Result<Vec<u8>> {
    let failed = |reason: String| Error::Device { op: "kernels", reason };
    let nvrtc = nvrtc().as_ref().map_err(|reason| {
        failed(format!("the kernels were not compiled when kdengine was built, and {reason}; {HOW_TO_INSTALL}"))
    })?;
    let own = |target: &&Target| matches!(target, Target::Machine { capability: own, .. } if *own == capability);
    let plain = Target::Machine { capability, specific: false };
    let machine = MACHINES.iter().find(own).copied().filter(|&own| nvrtc.knows(own)).unwrap_or(plain);
    let older = nvrtc.capabilities.iter().copied().filter(|&known| known < capability).max();
    let target = match older {
        _ if nvrtc.knows(machine) => machine,
        Some(capability) => Target::Ptx { capability },
        None => return Err(failed(format!("nvrtc {:?} knows no GPU as old as this one", nvrtc.version))),
    };
    let source = SOURCES.iter().find(|source| source.name == file).expect("files are named after the table");
    let key = digest(&format!("{:?} {target}", nvrtc.version), [source].into_iter().chain(HEADERS));
    let kept = folders::cache().map(|folder| folder.join("kernels").join(format!("{file}-{target}-{key}")));
    if let Some(image) = kept.as_ref().and_then(|path| std::fs::read(path).ok()) {
        return Ok(image);
    }
    let image = nvrtc.compile(*source, HEADERS, target).map_err(|log| failed(format!("{file}: {log}")))?;
    if let Some(path) = kept {
        // Without a writable cache the next run compiles again; nothing else is lost.
        let folder = path.parent().expect("a file in a folder");
        let _ = std::fs::create_dir_all(folder).map(|()| write_atomically(&path, &image));
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_gets_its_own_code_or_the_nearest_that_runs_on_it() {
        let machine = |capability| Target::Machine { capability, specific: capability == 90 };
        let ptx = |capability| Target::Ptx { capability };
        let targets = [machine(80), machine(86), machine(90), machine(100), ptx(80), ptx(100)];
        let chosen = |capability| choose(&targets, capability).map(|at| targets[at]);
        assert_eq!(chosen(80), Some(machine(80)));
        assert_eq!(chosen(87), Some(machine(86)), "the nearest older one of its generation");
        assert_eq!(chosen(90), Some(machine(90)));
        assert_eq!(chosen(103), Some(machine(100)));
        assert_eq!(chosen(121), Some(ptx(100)), "a new generation compiles the newest PTX");
        assert_eq!(chosen(75), None, "older than everything");
        assert_eq!(choose(&[machine(90)], 91), None, "code for one very GPU runs on no other");
    }

    #[test]
    fn every_kernel_is_found_in_its_file() {
        for (kernel, file) in [
            ("softmax_warp", "softmax.cu"),
            ("conv2d_large", "conv2d.cu"),
            ("conv2d_pooled_grad_weight_small", "conv2d.cu"),
            ("conv2d_first_relu_pool", "conv2d_first.cu"),
            ("conv2d_depthwise_grad_input", "conv2d_depthwise.cu"),
            ("conv2d_winograd_relu_pool", "conv2d_winograd.cu"),
            ("matmul_tn_small", "matmul.cu"),
            ("gather_rows_64", "layout.cu"),
            ("cross_entropy_block", "losses.cu"),
            ("jensen_shannon_bf16_block", "distillation.cu"),
            ("jensen_shannon_bf16_cluster", "distillation_cluster.cu"),
            ("conv2d_3x3_wide_tf32", "conv2d_3x3.cu"),
            ("conv2d_3x3_wgmma_wide_tf32", "conv2d_3x3_wgmma.cu"),
            ("conv2d_3x3_relu_pool_wgmma_narrow_bf16", "conv2d_3x3_wgmma.cu"),
            ("conv2d_3x3_pooled_grad_weight_narrow_bf16", "conv2d_3x3_weight.cu"),
            ("adam", "optim.cu"),
        ] {
            assert_eq!(file_of(kernel), Some(file), "{kernel}");
        }
        assert_eq!(file_of("no_such_kernel"), None);
    }
}
