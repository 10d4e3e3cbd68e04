//! Host time to record and submit one token, on wgpu's noop backend. The model has the 7B's number of layers with small sizes, because
//! the host's work does not depend on sizes.
//!
//! `cargo bench --bench encode`

use peregrine::format::WeightFormat;
use peregrine::gpu::{Gpu, wgpu};
use peregrine::model::{Architecture, Forward, ForwardOptions, Shape, Weights};
use std::sync::Arc;
use std::time::Instant;

fn noop() -> Gpu {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::NOOP,
        backend_options: wgpu::BackendOptions {
            noop: wgpu::NoopBackendOptions { enable: true, ..Default::default() },
            ..Default::default()
        },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter = pollster::block_on(instance.request_adapter(&Default::default())).expect("the noop adapter");
    let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("the noop device");
    Gpu::from_device(&adapter, device, queue).expect("the noop device has what peregrine needs")
}

fn main() {
    let mut shape = Shape::named("falcon-mamba-7b").expect("it is known");
    let Architecture::Mamba(mamba) = &mut shape.config.architecture;
    (mamba.inner, mamba.dt_rank) = (128, 4);
    (shape.config.hidden, shape.config.vocab) = (64, 256);
    let gpu = noop();
    let weights = Weights::made_up(&gpu, &shape, WeightFormat::Bf16, &mut |_| {}).expect("made up");
    let mut forward =
        Forward::new(&gpu, &shape.config, Arc::new(weights), ForwardOptions::default()).expect("recorded");
    forward.set_next(0, 1).expect("an id");
    forward.set_decoding(&[0]).expect("a slot");
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..2000 {
        let started = Instant::now();
        let step = forward.step().expect("submitted");
        times.push(started.elapsed().as_secs_f64() * 1e3);
        // The noop device computes nothing: any id is fine.
        let _ = pollster::block_on(forward.chosen(step));
    }
    times.sort_by(f64::total_cmp);
    let totals = forward.decode_totals(1);
    println!(
        "{} dispatches a token: {:.3} ms to record and submit (median of {}; 10 % {:.3}, 90 % {:.3})",
        totals.dispatches,
        times[times.len() / 2],
        times.len(),
        times[times.len() / 10],
        times[times.len() * 9 / 10],
    );
}
