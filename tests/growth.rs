//! That nothing grows from token to token: buffers of the device, and the heap, by an allocator that counts. A file of its own,
//! as the count is the process's.

mod common;

use peregrine::format::WeightFormat;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

/// Bytes that the process holds on its heap.
static LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[test]
fn nothing_grows_from_token_to_token() {
    if common::no_gpu("nothing_grows_from_token_to_token") {
        return;
    }
    let gpu = common::gpu();
    let mut forward = common::made_up(&gpu, &common::made_up_shape(64, 2, 300), WeightFormat::F32);
    let mut run = |steps: usize| {
        forward.set_next(0, 9).unwrap();
        forward.set_decoding(&[0]).unwrap();
        for _ in 0..steps {
            common::step(&mut forward);
            forward.feed(0, &[1, 2, 3]).unwrap();
            forward.set_decoding(&[0]).unwrap();
        }
        gpu.flush().unwrap();
        (LIVE.load(Ordering::Relaxed), gpu.allocated_bytes())
    };
    let (before, device_before) = run(50);
    let (after, device_after) = run(500);
    assert_eq!(device_before, device_after);
    // Ten times as many steps: what a step left behind would show five hundred times.
    assert!(after - before < 64 << 10, "{} bytes more on the heap after 500 steps", after - before);
    // The count does count.
    let held = vec![0u8; 1 << 20];
    assert!(LIVE.load(Ordering::Relaxed) - after >= 1 << 20);
    drop(held);
}
