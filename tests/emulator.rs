//! The emulator finds what a GPU would let pass: every planted bug is reported with kernel, block and thread, under every schedule.
#![cfg(feature = "emulator")]

use half::{bf16, f16};
use kdengine::backend::cuda::driver::{Arg, DevicePtr, Driver, Launch, Node, Step};
use kdengine::backend::cuda::emulator::{with_schedule, Emulator};
use kdengine::{Error, Shape};

const SCHEDULES: u64 = 8;

/// Device memory that holds these numbers.
fn upload(emulator: &Emulator, values: &[f32]) -> DevicePtr {
    let memory = emulator.allocate(size_of_val(values)).unwrap();
    emulator.upload(memory, bytemuck::cast_slice(values)).unwrap();
    memory
}

fn download(emulator: &Emulator, from: DevicePtr, n: usize) -> Vec<f32> {
    let mut values = vec![0.0; n];
    emulator.download(from, bytemuck::cast_slice_mut(&mut values)).unwrap();
    values
}

fn launch(kernel: &'static str, grid: [u32; 3], block: u32, args: Vec<Arg>) -> Launch {
    Launch { kernel, grid, block, args, shapes: vec![Shape::from([64])] }
}

#[test]
fn every_planted_bug_is_reported_with_kernel_block_and_thread_under_every_schedule() {
    let planted: [(&str, u32, &str); 23] = [
        ("missing_barrier", 1, "shared memory"),
        ("divergent_shuffle", 1, "waits at a shuffle under the mask 0xffffffff, but lane"),
        ("store_past_the_end", 1, "thread 63: writes 4 bytes outside of device memory, 0 bytes after the end"),
        ("load_before_the_start", 1, "thread 0: reads 4 bytes outside of device memory"),
        ("null_pointer", 1, "through a null pointer"),
        ("misaligned_vector", 1, "which is not a multiple of 16"),
        ("uninitialised_shared_memory", 1, "thread 63: reads shared memory that no thread has written"),
        ("past_shared_memory", 1, "thread 63: writes 4 bytes outside of the block's variables in shared memory"),
        ("too_much_shared_memory", 1, "49156 bytes of shared memory, a block has 49152"),
        ("depends_on_block_order", 4, "the result depends on their order"),
        ("two_blocks_write_one_place", 4, "the result depends on their order"),
        ("barrier_in_a_branch", 1, "waits at a barrier for all threads, but thread"),
        ("barrier_against_shuffle", 1, "waits at a barrier"),
        ("reads_before_the_wait", 1, "reads shared memory to which an asynchronous copy of thread"),
        ("waits_for_too_few", 1, "reads shared memory to which an asynchronous copy of thread"),
        ("no_barrier_behind_the_wait", 1, "shared memory"),
        ("stage_reused_too_early", 1, "shared memory"),
        ("copy_from_a_crooked_address", 1, "thread 0: reads 16 bytes at an address that is not a multiple of 16"),
        (
            "copy_to_a_crooked_address",
            1,
            "thread 0: 16 bytes of shared memory at an address that is not a multiple of 16",
        ),
        ("copy_past_the_end", 1, "thread 63: reads 4 bytes outside of device memory, 0 bytes after the end"),
        ("crooked_matrix_row", 1, "16 bytes of shared memory at an address that is not a multiple of 16"),
        ("lane_missing_at_a_product", 1, "waits for its warp at mma.m16n8k8, but lane 31 has ended"),
        ("product_against_barrier", 1, "waits for its warp at mma.m16n8k16, but lane 0 waits at a barrier"),
    ];
    for (kernel, blocks, expected) in planted {
        for seed in 0..SCHEDULES {
            let emulator = Emulator::new();
            let (x, y) = (upload(&emulator, &[1.0; 64]), upload(&emulator, &[0.0; 64]));
            let args = match kernel {
                "load_before_the_start" => vec![Arg::from(x), Arg::from(y)],
                "null_pointer" => vec![Arg::from(DevicePtr::NULL)],
                _ => vec![Arg::from(x)],
            };
            let result = with_schedule(seed, || emulator.launch(&launch(kernel, [blocks, 1, 1], 64, args)));
            let message = result.expect_err(kernel).to_string();
            let whole = format!("kernel `{kernel}` (grid [{blocks}, 1, 1], block 64, shapes [64]): block [");
            assert!(message.starts_with(&whole) && message.contains(", thread "), "{kernel}: {message}");
            assert!(message.contains(expected), "{kernel}, schedule {seed}: {message}");
        }
    }
}

#[test]
fn a_launch_that_does_not_fit_its_kernel_is_refused() {
    let emulator = Emulator::new();
    let x = upload(&emulator, &[1.0; 64]);
    let fill = |grid, block, args| emulator.launch(&launch("fill", grid, block, args)).unwrap_err().to_string();
    let right = || vec![Arg::from(x), Arg::from(2.0f32), Arg::from(64u32)];
    assert!(fill([1, 1, 1], 257, right()).contains("1 to 256 threads"));
    assert!(fill([1, 1, 1], 0, right()).contains("1 to 256 threads"));
    assert!(fill([0, 1, 1], 64, right()).contains("grid"));
    assert!(fill([1, 70_000, 1], 64, right()).contains("grid"));
    assert!(fill([1, 1, 1], 64, right()[..2].to_vec()).contains("2 arguments, the kernel has 3"));
    let wrong = vec![Arg::from(x), Arg::from(2.0f64), Arg::from(64u32)];
    assert!(fill([1, 1, 1], 64, wrong).contains("argument 1 has 8 bytes, the kernel's has 4"));
    let unknown = emulator.launch(&launch("no_such_kernel", [1, 1, 1], 64, right())).unwrap_err().to_string();
    assert!(unknown.contains("no_such_kernel") && unknown.contains("no such kernel"), "{unknown}");
    assert_eq!(download(&emulator, x, 64), [1.0; 64], "nothing was written");
}

#[test]
fn a_block_of_threads_sums_in_one_order_whatever_the_schedule() {
    let emulator = Emulator::new();
    let values: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin() * 1e3).collect();
    let x = upload(&emulator, &values);
    let sum = |seed| {
        with_schedule(seed, || {
            let y = upload(&emulator, &[0.0]);
            let args = vec![x.into(), y.into(), 1u32.into(), 1000u32.into(), 1000u32.into()];
            emulator.launch(&launch("sum_rows", [1, 1, 1], 256, args)).unwrap();
            download(&emulator, y, 1)[0].to_bits()
        })
    };
    let expected: f64 = values.iter().map(|&x| f64::from(x)).sum();
    assert!((f64::from(f32::from_bits(sum(0))) - expected).abs() < 1e-2);
    assert!((1..32).all(|seed| sum(seed) == sum(0)));
}

#[test]
fn fresh_memory_holds_nan_and_copies_stay_inside() {
    let emulator = Emulator::new();
    let memory = emulator.allocate(16).unwrap();
    assert!(download(&emulator, memory, 4).iter().all(|x| x.is_nan()));
    assert!(emulator.upload(memory, &[0; 17]).is_err());
    assert!(emulator.download(DevicePtr(memory.0 + 1), &mut [0; 16]).is_err());
    assert!(emulator.copy(memory, DevicePtr(memory.0 + 8), 16).is_err());
    emulator.free(memory, 16);
    let error = emulator.launch(&launch("fill", [1, 1, 1], 64, vec![memory.into(), 1.0f32.into(), 4u32.into()]));
    assert!(error.unwrap_err().to_string().contains("outside of device memory"), "freed memory is gone");
}

#[test]
fn running_out_of_memory_says_how_much_and_what_to_do() {
    let emulator = Emulator::new();
    let held = emulator.allocate(1 << 20).unwrap();
    let error = emulator.allocate(8 << 30).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { asked, in_use, .. } if asked == 8 << 30 && in_use == 1 << 20));
    assert!(error.to_string().contains("--batch-size"), "{error}");
    emulator.free(held, 1 << 20);
    assert_eq!(emulator.memory_use().unwrap().in_use, 0);
}

#[test]
fn a_graph_does_its_steps_in_order_with_the_arguments_set_last() {
    let emulator = Emulator::new();
    let (x, y) = (upload(&emulator, &[1.0; 4]), upload(&emulator, &[0.0; 4]));
    let add = |n: u32| Step::Launch(launch("add_assign", [1, 1, 1], 64, vec![y.into(), x.into(), n.into()]));
    let steps = [add(4), Step::Copy { from: y, to: x, bytes: 16 }];
    let mut graph = emulator.graph(&steps.map(|step| Node { lane: 0, step })).unwrap();
    assert_eq!(download(&emulator, y, 4), [0.0; 4], "making it does nothing");
    (0..3).for_each(|_| graph.launch().unwrap());
    assert_eq!(download(&emulator, y, 4), [4.0; 4], "1, then 1 + 1, then 2 + 2");
    graph.set(0, &add(2)).unwrap();
    graph.launch().unwrap();
    assert_eq!(download(&emulator, y, 4), [8.0, 8.0, 4.0, 4.0]);
}

#[test]
fn the_limits_of_arithmetic_are_of_the_products_that_they_count() {
    // Sums of 1/16 for each multiply-add of a chain's result, and of the chains' numbers: 4 results a thread on tensor cores.
    for (kernel, k) in [("multiply_adds_tf32", 8.0), ("multiply_adds_bf16", 16.0), ("multiply_adds_f16", 16.0)] {
        let sum = 112.0 + 32.0 * 3.0 * k / 16.0;
        let emulator = Emulator::new();
        let out = upload(&emulator, &[0.0; 64]);
        emulator.launch(&launch(kernel, [1, 1, 1], 64, vec![out.into(), 3u32.into()])).unwrap();
        assert_eq!(download(&emulator, out, 64), [sum; 64], "{kernel}");
    }
}

#[test]
fn a_warp_multiplies_matrices_and_a_wrong_layout_of_their_fragments_shows() {
    for (kernel, k) in [("warp_product_tf32", 8), ("warp_product_bf16", 16), ("warp_product_f16", 16)] {
        // Whole numbers that all formats hold exactly.
        let number = |i: usize| (i * 37 % 61) as f32 - 30.0;
        let (a, b) =
            ((0..16 * k).map(number).collect::<Vec<_>>(), (0..8 * k).map(|i| number(i + 5)).collect::<Vec<_>>());
        let dot = |row: usize, column: usize| (0..k).map(|i| a[row * k + i] * b[column * k + i]).sum::<f32>();
        let expected: Vec<f32> = (0..16 * 8).map(|i| dot(i / 8, i % 8)).collect();
        let product = |mistake: i32, seed| {
            let emulator = Emulator::new();
            let c = upload(&emulator, &[0.0; 16 * 8]);
            let args = vec![upload(&emulator, &a).into(), upload(&emulator, &b).into(), c.into(), mistake.into()];
            with_schedule(seed, || emulator.launch(&launch(kernel, [1, 1, 1], 32, args))).unwrap();
            download(&emulator, c, 16 * 8)
        };
        for seed in 0..SCHEDULES {
            assert_eq!(product(0, seed), expected, "{kernel}, schedule {seed}");
            assert_ne!(product(1, seed), expected, "{kernel} with rows and halves of k exchanged");
        }
    }
}

/// What can be wrong with a product by four warps (`Mistake` in `broken.cu`), and what is said of it.
const WARPGROUP_MISTAKES: [(i32, &str); 15] = [
    (2, "multiplies shared memory to which an asynchronous copy goes that was not waited for"),
    (3, "wrote to shared memory, without `show_to_products` between"),
    (4, "writes to shared memory, without a barrier between"),
    (5, "multiplies without `begin_products` since the last group"),
    (6, "touches sums of products that were not waited for"),
    (8, "writes shared memory that a product reads which was not waited for"),
    (9, "ends before it has waited for its products"),
    (10, "the block ends before a bulk copy has arrived"),
    (11, "waits for the end of a phase that lacks 1 arrivals and 0 bytes for good"),
    (12, "without `barriers_are_made` and __syncthreads between"),
    (13, "waits for four warps at wgmma, but thread 96 has ended"),
    (14, "thread 0: arrives at a phase at which 1 have arrived, which is all"),
    (15, "thread 0: copies 4088 bytes, which is not a multiple of 16"),
    (16, "multiplies what a bulk copy brought, for which thread 32 has not waited"),
    (17, "reads shared memory to which an asynchronous copy of thread 0 goes that was not waited for"),
];

#[test]
fn four_warps_multiply_matrices_in_shared_memory_and_every_mistake_shows() {
    for (kernel, k) in [("warpgroup_product_tf32", 8), ("warpgroup_product_bf16", 16), ("warpgroup_product_f16", 16)] {
        // Whole numbers that all formats hold exactly.
        let number = |i: usize| (i * 37 % 61) as f32 - 30.0;
        let a: Vec<f32> = (0..64 * k).map(number).collect();
        let b = |row: usize, i: usize| number(row * k + i + 5);
        let dot = |row: usize, column: usize| (0..k).map(|i| a[row * k + i] * b(column, i)).sum::<f32>();
        let expected: Vec<f32> = (0..64 * 128).map(|i| dot(i / 128, i % 128)).collect();
        // Words of 8 rows lie together, the first four of each row before the others.
        let word = |i: usize| {
            let (row, at) = (i / 64 * 8 + i / 4 % 8, i / 32 % 2 * 4 + i % 4);
            let pair = |of: fn(f32) -> u16| u32::from(of(b(row, 2 * at))) | u32::from(of(b(row, 2 * at + 1))) << 16;
            match kernel {
                "warpgroup_product_tf32" => b(row, at).to_bits(),
                "warpgroup_product_bf16" => pair(|x| bf16::from_f32(x).to_bits()),
                _ => pair(|x| f16::from_f32(x).to_bits()),
            }
        };
        let packed: Vec<f32> = (0..128 * 8).map(|i| f32::from_bits(word(i))).collect();
        let product = |mistake: i32, seed| {
            let emulator = Emulator::new();
            let c = upload(&emulator, &[0.0; 64 * 128]);
            let args = vec![upload(&emulator, &a).into(), upload(&emulator, &packed).into(), c.into(), mistake.into()];
            with_schedule(seed, || emulator.launch(&launch(kernel, [1, 1, 1], 128, args)))?;
            Ok(download(&emulator, c, 64 * 128))
        };
        for seed in 0..SCHEDULES {
            let right: Result<_, Error> = product(0, seed);
            assert_eq!(right.unwrap(), expected, "{kernel}, schedule {seed}");
            assert_ne!(product(1, seed).unwrap(), expected, "{kernel} with halves of k and groups of rows exchanged");
            for (mistake, reason) in WARPGROUP_MISTAKES {
                let message = product(mistake, seed).expect_err(reason).to_string();
                assert!(message.contains(reason), "{kernel}, mistake {mistake}, schedule {seed}: {message}");
            }
        }
        // A thread that waits for its own warp only is right where its warp happens to be the last.
        let reused = |seed| product(7, seed).err().map(|error| error.to_string());
        let reason = "thread 0: writes shared memory that a product reads which was not waited for";
        assert!((0..SCHEDULES).filter_map(reused).any(|message| message.contains(reason)), "{kernel}");
    }
}

/// What can be wrong with blocks that reach one another's shared memory (`ClusterMistake` in `broken.cu`), and what is said of it.
const CLUSTER_MISTAKES: [(i32, &str); 8] = [
    (1, "thread 0: puts a number into a block that may not be there yet"),
    (2, "waits at a barrier of its cluster for all threads of all blocks, but thread 0 of block 3 there has ended"),
    (3, "reads shared memory where a block puts a number, without a barrier of the cluster between"),
    (4, "without a barrier of the cluster between"),
    (5, "the block ends before the cluster's barrier behind what was put into it"),
    (6, "thread 0: puts a number into block 8 of a cluster that has not so many"),
    (7, "where multiples of 16 are wanted"),
    (8, "reads 16 bytes outside of device memory, 0 bytes after the end"),
];

#[test]
fn blocks_of_a_cluster_put_numbers_into_one_another_and_every_mistake_shows() {
    let rotated = |blocks: u32, mistake: i32, seed| {
        let emulator = Emulator::new();
        let x = upload(&emulator, &[0.0; 16 * 64]);
        let args = vec![x.into(), mistake.into()];
        with_schedule(seed, || emulator.launch(&launch("cluster_rotation", [blocks, 1, 1], 64, args)))?;
        Ok(download(&emulator, x, 16 * 64))
    };
    let expected: Vec<f32> = (0..16 * 64).map(|i| ((i / 64 + 6) % 8) as f32).collect();
    for seed in 0..SCHEDULES {
        let right: Result<_, Error> = rotated(16, 0, seed);
        assert_eq!(right.unwrap(), expected, "schedule {seed}");
        for (mistake, reason) in CLUSTER_MISTAKES {
            let message = rotated(16, mistake, seed).expect_err(reason).to_string();
            assert!(message.contains(reason), "mistake {mistake}, schedule {seed}: {message}");
        }
    }
    let half_a_cluster = rotated(12, 0, 0).unwrap_err().to_string();
    assert!(half_a_cluster.contains("a multiple of 8 blocks along x"), "{half_a_cluster}");
}
