//! What compiled kernels call: the rendezvous of `device.cuh`, and the thread sanitizer's hooks before every access to memory.

use super::access::{
    check, check_stretch, copy_async, copy_in_bulk, fail, put_in_block, suspend, with_shared, Access, RUNNING, WORD,
};
use super::block::Wait;
use super::matrix::{Lane, MatrixOp};
use super::products::{Product, Rows, Sums};
use crate::backend::cuda::format::Format;
use half::f16;
use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, Ordering};

#[no_mangle]
extern "C" fn emulated_barrier() {
    suspend(Wait::Barrier);
}

#[no_mangle]
extern "C" fn emulated_shuffle(mask: u32, value: u64, source: u32) -> u64 {
    suspend(Wait::Shuffle { mask, value, source })
}

#[no_mangle]
extern "C" fn emulated_shared_memory(key: *const c_void, bytes: usize, alignment: usize) -> *mut c_void {
    let running = RUNNING.get();
    // SAFETY: a thread is running, so its block's shared memory is there, and nobody else uses it meanwhile.
    match unsafe { (*running.shared).variable(key as usize, bytes, alignment) } {
        Ok(memory) => memory.cast(),
        Err(reason) => {
            fail(&running, reason);
            std::ptr::null_mut()
        }
    }
}

#[no_mangle]
extern "C" fn emulated_atomic_add(at: *mut i32, value: i32) -> i32 {
    check(at as usize, size_of::<i32>(), Access::Atomic);
    // SAFETY: the access was just checked, and others go through here too.
    unsafe { AtomicI32::from_ptr(at) }.fetch_add(value, Ordering::Relaxed)
}

#[no_mangle]
extern "C" fn emulated_misaligned(at: *const c_void) {
    fail(&RUNNING.get(), format!("16 bytes at {at:?}, which is not a multiple of 16"));
}

#[no_mangle]
extern "C" fn emulated_copy_async(to: usize, from: usize, bytes: u32, exists: u32) {
    copy_async(to, (exists != 0).then_some(from), bytes as usize);
}

#[no_mangle]
extern "C" fn emulated_commit_copies() {
    let running = RUNNING.get();
    // SAFETY: a thread is running, so its block's shared memory is there, and nobody else uses it meanwhile.
    unsafe { (*running.shared).copies_of(running.thread).commit() }
}

#[no_mangle]
extern "C" fn emulated_wait_copies(pending: u32) {
    let running = RUNNING.get();
    // SAFETY: as above.
    unsafe { (*running.shared).wait_for_copies(running.thread, pending as usize) }
}

#[no_mangle]
extern "C" fn emulated_load_matrices(row: *const [u32; 4], transposed: u32, registers: *mut [u32; 4]) {
    check(row as usize, size_of::<[u32; 4]>(), Access::Read);
    let mut lane = Lane::default();
    // SAFETY: the access was just checked; the result is on the thread's stack.
    unsafe {
        lane.operands[..4].copy_from_slice(&*row);
        suspend(Wait::Matrix { op: MatrixOp::Load { transposed: transposed != 0 }, lane: &raw mut lane });
        *registers = lane.result;
    }
}

#[no_mangle]
extern "C" fn emulated_multiply_matrices(format: u32, a: *const [u32; 4], b: *const [u32; 2], sum: *mut [u32; 4]) {
    let op = MatrixOp::Multiply(Format::ALL[format as usize]);
    // SAFETY: kernels pass registers of theirs, which are on the thread's stack.
    unsafe {
        let mut lane = Lane { operands: [0; 6], result: *sum };
        lane.operands[..4].copy_from_slice(&*a);
        lane.operands[4..].copy_from_slice(&*b);
        suspend(Wait::Matrix { op, lane: &raw mut lane });
        *sum = lane.result;
    }
}

#[no_mangle]
extern "C" fn emulated_float_to_f16(value: f32) -> u16 {
    f16::from_f32(value).to_bits()
}

#[no_mangle]
extern "C" fn emulated_make_barrier(barrier: usize, arrivals: u32) {
    with_shared(|shared, thread| shared.make_barrier(shared.place(barrier)?, arrivals, thread));
}

#[no_mangle]
extern "C" fn emulated_barriers_are_made() {
    with_shared(|shared, thread| {
        shared.announce_barriers(thread);
        Ok(())
    });
}

#[no_mangle]
extern "C" fn emulated_arrive(barrier: usize) {
    with_shared(|shared, thread| shared.arrive_at(shared.place(barrier)?, thread));
}

#[no_mangle]
extern "C" fn emulated_arrive_with_copy(barrier: usize, to: usize, from: usize, bytes: u32) {
    copy_in_bulk(barrier, to, from, bytes as usize);
}

#[no_mangle]
extern "C" fn emulated_wait_for_phase(barrier: usize, parity: u32) {
    let waits = with_shared(|shared, thread| {
        let barrier = shared.place(barrier)?;
        shared.check_barrier(barrier, thread)?;
        Ok((!shared.barriers.has_ended(barrier, parity)).then_some(barrier))
    });
    if let Some(barrier) = waits {
        suspend(Wait::Phase { barrier, parity });
    }
    with_shared(|shared, thread| {
        let (barrier, epoch) = (shared.place(barrier)?, shared.epoch());
        shared.barriers.see(barrier, thread, epoch);
        Ok(())
    });
}

#[no_mangle]
extern "C" fn emulated_show_to_products() {
    with_shared(|shared, thread| {
        shared.products.show(shared.epoch(), thread);
        Ok(())
    });
}

#[no_mangle]
extern "C" fn emulated_begin_products() {
    with_shared(|shared, thread| {
        shared.products.begin(thread);
        Ok(())
    });
}

#[no_mangle]
extern "C" fn emulated_multiply_shared(
    format: u32,
    first: *const [usize; 2],
    strides: *const [u32; 4],
    sums: *mut Sums,
) {
    // SAFETY: kernels pass what is on the thread's stack.
    let ([a, b], strides) = unsafe { (*first, (*strides).map(|bytes| bytes as usize)) };
    let product = with_shared(|shared, thread| {
        if !shared.products.has_begun(thread) {
            return Err("multiplies without `begin_products` since the last group".to_string());
        }
        let a = Rows { first: shared.place(a)?, halves: strides[0], eights: strides[1] };
        let b = Rows { first: shared.place(b)?, halves: strides[2], eights: strides[3] };
        Ok(Some(Product { format: Format::ALL[format as usize], a, b }))
    });
    if let Some(product) = product {
        let number = suspend(Wait::Product(product)) as usize;
        with_shared(|shared, thread| {
            shared.products.join(number, sums, thread);
            Ok(())
        });
    }
}

#[no_mangle]
extern "C" fn emulated_commit_products() {
    with_shared(|shared, thread| {
        shared.products.commit(thread);
        Ok(())
    });
}

#[no_mangle]
extern "C" fn emulated_wait_products(pending: u32) {
    suspend(Wait::Products { pending });
}

#[no_mangle]
extern "C" fn emulated_cluster_barrier() {
    suspend(Wait::ClusterBarrier);
}

#[no_mangle]
extern "C" fn emulated_put_in_block(place: usize, rank: u32, value: f32) {
    put_in_block(place, rank as usize, value.to_bits());
}

#[no_mangle]
extern "C" fn emulated_fetch_to_cache(from: usize, bytes: u32) {
    check_stretch(from, bytes as usize);
}

/// A hook for accesses of a fixed size.
macro_rules! hooks {
    ($($name:ident: $access:ident $bytes:literal),* $(,)?) => { $(
        #[no_mangle]
        extern "C" fn $name(address: usize) {
            check(address, $bytes, Access::$access);
        }
    )* };
}

hooks! {
    __tsan_read1: Read 1, __tsan_read2: Read 2, __tsan_read4: Read 4, __tsan_read8: Read 8, __tsan_read16: Read 16,
    __tsan_write1: Write 1, __tsan_write2: Write 2, __tsan_write4: Write 4, __tsan_write8: Write 8, __tsan_write16: Write 16,
    __tsan_unaligned_read2: Read 2, __tsan_unaligned_read4: Read 4, __tsan_unaligned_read8: Read 8,
    __tsan_unaligned_read16: Read 16,
    __tsan_unaligned_write2: Write 2, __tsan_unaligned_write4: Write 4, __tsan_unaligned_write8: Write 8,
    __tsan_unaligned_write16: Write 16,
}

/// A copy of a whole struct: word by word where it consists of words, else byte by byte.
fn check_range(address: usize, bytes: usize, access: Access) {
    let unit = if (address | bytes).is_multiple_of(WORD) { WORD } else { 1 };
    (address..address + bytes).step_by(unit).for_each(|at| check(at, unit, access));
}

#[no_mangle]
extern "C" fn __tsan_read_range(address: usize, bytes: usize) {
    check_range(address, bytes, Access::Read);
}

#[no_mangle]
extern "C" fn __tsan_write_range(address: usize, bytes: usize) {
    check_range(address, bytes, Access::Write);
}

#[no_mangle]
extern "C" fn __tsan_init() {}

#[no_mangle]
extern "C" fn __tsan_func_entry(_caller: usize) {}

#[no_mangle]
extern "C" fn __tsan_func_exit() {}
