//! The `kdengine` binary.

fn main() -> std::process::ExitCode {
    kdengine::cli::main()
}
