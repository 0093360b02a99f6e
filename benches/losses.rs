//! The fused distillation loss on the CPU, as JSON lines: `cargo bench --bench losses`. `kdengine bench` runs the same cases with more options.

fn main() -> kdengine::Result<()> {
    kdengine::bench::print(kdengine::bench::Suite::Loss)
}
