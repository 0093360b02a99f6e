//! Compiling the CUDA kernels with NVIDIA's run-time compiler, which needs neither a GPU nor the CUDA toolkit. Used by the build script
//! and, where that had no nvrtc, at run time.

use cudarc::nvrtc::sys;
use std::ffi::{CStr, CString};
use std::fmt;
use std::path::{Path, PathBuf};

/// The environment variable that says where libnvrtc is: a file or a folder; `none` to do without.
pub const VARIABLE: &str = "KDENGINE_NVRTC";

/// What a user can do who has no nvrtc.
pub const HOW_TO_INSTALL: &str =
    "install it with `pip install nvidia-cuda-nvrtc`, or the CUDA toolkit, or say where it is with KDENGINE_NVRTC";

/// What kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Machine code for one compute capability, such as 86 for 8.6; `a` after it: with what only this very one has.
    Machine { capability: u32, specific: bool },
    /// PTX for this capability and all that come after it; the driver compiles it at load time.
    Ptx { capability: u32 },
}

impl fmt::Display for Target {
    /// As nvrtc calls it: `sm_86`, `sm_90a`, `compute_80`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Target::Machine { capability, specific } => {
                write!(f, "sm_{capability}{}", if *specific { "a" } else { "" })
            }
            Target::Ptx { capability } => write!(f, "compute_{capability}"),
        }
    }
}

/// The GPUs whose machine code is built in: Ampere, Ada, Hopper, Blackwell.
pub const MACHINES: [Target; 6] = [
    Target::Machine { capability: 80, specific: false },
    Target::Machine { capability: 86, specific: false },
    Target::Machine { capability: 89, specific: false },
    Target::Machine { capability: 90, specific: true },
    Target::Machine { capability: 100, specific: false },
    Target::Machine { capability: 120, specific: false },
];

/// A file of CUDA C++.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The name by which messages call it and others include it.
    pub name: &'a str,
    /// Its contents.
    pub text: &'a str,
}

/// A loaded nvrtc.
#[derive(Clone, Debug)]
pub struct Nvrtc {
    /// Major and minor version.
    pub version: (i32, i32),
    /// The compute capabilities that it knows.
    pub capabilities: Vec<u32>,
}

/// Kernels are compiled with IEEE division and square root and without fast-math: results are compared with the processor's.
const OPTIONS: [&str; 2] = ["--std=c++17", "--generate-line-info"];

impl Nvrtc {
    /// Finds and loads nvrtc: where [`VARIABLE`] says, in the CUDA toolkit, on the loader's path, in a Python package.
    ///
    /// # Errors
    /// There is none; the message says where it was looked for.
    pub fn load() -> Result<Nvrtc, String> {
        let asked = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        let found = match &asked {
            Some(place) if place.as_os_str() == "none" => {
                return Err(format!("nvrtc is switched off by {VARIABLE}=none"))
            }
            Some(place) => libraries_in(place).iter().any(|library| preload(library)),
            None => {
                toolkit_folders().iter().flat_map(|folder| libraries_in(folder)).any(|library| preload(&library))
                    || is_loadable()
                    || python_folders().iter().flat_map(|folder| libraries_in(folder)).any(|library| preload(&library))
            }
        };
        match (found && is_loadable(), asked) {
            (true, _) => Nvrtc::describe(),
            (false, Some(place)) => Err(format!("{VARIABLE}={} holds no usable libnvrtc", place.display())),
            (false, None) => Err("nvrtc was not found".to_string()),
        }
    }

    fn describe() -> Result<Nvrtc, String> {
        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: the library is loaded, and the pointers are valid for what is written.
        unsafe {
            check(sys::nvrtcVersion(&mut major, &mut minor))?;
            check(sys::nvrtcGetNumSupportedArchs(&mut count))?;
            let mut capabilities = vec![0; count.max(0) as usize];
            check(sys::nvrtcGetSupportedArchs(capabilities.as_mut_ptr()))?;
            let capabilities = capabilities.into_iter().map(|capability| capability as u32).collect();
            Ok(Nvrtc { version: (major, minor), capabilities })
        }
    }

    /// Whether it can compile for a target.
    pub fn knows(&self, target: Target) -> bool {
        let (Target::Machine { capability, .. } | Target::Ptx { capability }) = target;
        // Code for one very GPU came with CUDA 12.
        let specific = matches!(target, Target::Machine { specific: true, .. });
        self.capabilities.contains(&capability) && (!specific || self.version.0 >= 12)
    }

    /// Compiles a source that includes some of the headers to an image of machine code or PTX.
    ///
    /// # Errors
    /// The compiler's messages, which name file and line.
    pub fn compile(&self, source: Source, headers: &[Source], target: Target) -> Result<Vec<u8>, String> {
        let program = Program::new(source, headers)?;
        let architecture = format!("--gpu-architecture={target}");
        let options: Vec<CString> = [architecture.as_str()].into_iter().chain(OPTIONS).map(text).collect();
        let pointers: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: the program is alive, and so are the options.
        let done = unsafe { sys::nvrtcCompileProgram(program.0, pointers.len() as i32, pointers.as_ptr()) };
        if let Err(error) = check(done) {
            return Err(format!("{error}\n{}", program.log()?));
        }
        match target {
            Target::Machine { .. } => program.read(sys::nvrtcGetCUBINSize, sys::nvrtcGetCUBIN),
            Target::Ptx { .. } => program.read(sys::nvrtcGetPTXSize, sys::nvrtcGetPTX),
        }
    }
}

/// A program under compilation.
struct Program(sys::nvrtcProgram);

impl Program {
    fn new(source: Source, headers: &[Source]) -> Result<Program, String> {
        let (name, body) = (text(source.name), text(source.text));
        let names: Vec<CString> = headers.iter().map(|header| text(header.name)).collect();
        let bodies: Vec<CString> = headers.iter().map(|header| text(header.text)).collect();
        let pointers = |strings: &[CString]| strings.iter().map(|string| string.as_ptr()).collect::<Vec<_>>();
        let (names, bodies) = (pointers(&names), pointers(&bodies));
        let mut program = std::ptr::null_mut();
        // SAFETY: all strings outlive the call, which copies them.
        check(unsafe {
            let (count, bodies, names) = (headers.len() as i32, bodies.as_ptr(), names.as_ptr());
            sys::nvrtcCreateProgram(&mut program, body.as_ptr(), name.as_ptr(), count, bodies, names)
        })?;
        Ok(Program(program))
    }

    fn log(&self) -> Result<String, String> {
        let bytes = self.read(sys::nvrtcGetProgramLogSize, sys::nvrtcGetProgramLog)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_string())
    }

    fn read(
        &self,
        size: unsafe fn(sys::nvrtcProgram, *mut usize) -> sys::nvrtcResult,
        get: unsafe fn(sys::nvrtcProgram, *mut std::ffi::c_char) -> sys::nvrtcResult,
    ) -> Result<Vec<u8>, String> {
        let mut bytes = 0;
        // SAFETY: the program is alive, and the buffer has the size that nvrtc asked for.
        unsafe {
            check(size(self.0, &mut bytes))?;
            let mut buffer = vec![0u8; bytes];
            check(get(self.0, buffer.as_mut_ptr().cast()))?;
            Ok(buffer)
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: created by nvrtc, and not used any more.
        unsafe { sys::nvrtcDestroyProgram(&mut self.0) };
    }
}

fn text(string: &str) -> CString {
    CString::new(string.replace('\0', " ")).expect("zeros were replaced")
}

fn check(result: sys::nvrtcResult) -> Result<(), String> {
    match result {
        sys::nvrtcResult::NVRTC_SUCCESS => Ok(()),
        // SAFETY: nvrtc returns a constant string for every result.
        error => Err(unsafe { CStr::from_ptr(sys::nvrtcGetErrorString(error)) }.to_string_lossy().into_owned()),
    }
}

/// Whether the loader finds nvrtc by one of its names. Asked first, because cudarc panics where it does not.
fn is_loadable() -> bool {
    // SAFETY: loading nvrtc runs nothing but its initialisation.
    unsafe { sys::is_culib_present() }
}

/// The libnvrtc files of a folder, the newest version first; a file is itself.
fn libraries_in(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_path_buf()];
    }
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let mut libraries: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_nvrtc(path)).collect();
    libraries.sort_by(|a, b| b.cmp(a));
    libraries
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn is_nvrtc(path: &Path) -> bool {
    let name = file_name(path);
    let is_library = name.starts_with("libnvrtc.so") || name.starts_with("libnvrtc.dylib");
    is_library || (name.starts_with("nvrtc64_") && name.ends_with(".dll"))
}

fn is_builtins(path: &Path) -> bool {
    let name = file_name(path);
    name.starts_with("libnvrtc-builtins.so") || name.starts_with("nvrtc-builtins64_")
}

/// Loads a library by its path and keeps it, so that the loader knows it by its name from then on. The built-in functions beside it come
/// first: nvrtc looks for them by name only when it compiles.
fn preload(library: &Path) -> bool {
    let folder = library.parent().unwrap_or(Path::new("."));
    let beside = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    beside.filter(|path| is_builtins(path)).for_each(|path| {
        load_globally(&path);
    });
    load_globally(library)
}

fn load_globally(library: &Path) -> bool {
    // SAFETY: loading nvrtc runs nothing but its initialisation.
    #[cfg(unix)]
    let loaded = unsafe {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL)
    };
    // SAFETY: as above.
    #[cfg(not(unix))]
    let loaded = unsafe { libloading::Library::new(library) };
    loaded.map(std::mem::forget).is_ok()
}

fn toolkit_folders() -> Vec<PathBuf> {
    let roots = ["CUDA_PATH", "CUDA_HOME"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let inside = ["lib64", "lib", "bin", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"];
    roots.flat_map(|root| inside.map(|folder| root.join(folder))).collect()
}

/// Where Python packages put nvrtc: `site-packages/nvidia/<toolkit>/lib`.
fn python_folders() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".local"));
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let interpreter = std::process::Command::new("python3").args(["-c", "import sys; print(sys.prefix)"]).output();
    let interpreter = interpreter.ok().map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let roots = active.into_iter().chain(home).chain(interpreter).chain(["/usr".into(), "/usr/local".into()]);
    let subfolders = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let versions = roots.flat_map(move |root| subfolders(root.join("lib")));
    let pythons = versions.filter(|path| file_name(path).starts_with("python3"));
    let packages = pythons.flat_map(|python| ["site-packages", "dist-packages"].map(|name| python.join(name)));
    packages
        .flat_map(move |packages| subfolders(packages.join("nvidia")))
        .flat_map(|toolkit| ["lib", "bin"].map(|name| toolkit.join(name)))
        .collect()
}
