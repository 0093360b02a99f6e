//! Single kernels on the CPU, as JSON lines: `cargo bench --bench kernels`. `kdengine bench` runs the same cases with more options.

fn main() -> kdengine::Result<()> {
    kdengine::bench::print(kdengine::bench::Suite::Kernels)
}
