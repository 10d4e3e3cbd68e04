//! Pictures where x_proj is cut along k, against those where it is not.

use super::{Vim, VimForward, VimWeights};
use crate::format::WeightFormat;
use crate::gpu::{AdapterChoice, Gpu, Switches, at_once};
use crate::kernels::case::Random;
use crate::kernels::linear::Math;
use crate::kernels::variants::Variants;
use std::sync::Arc;

/// Features of three pictures, run in batches of at most so many, on an adapter that such a number of workgroups keeps busy.
fn features(busy_groups: u32, most: usize) -> Vec<f32> {
    let switches = Switches { busy_groups: Some(busy_groups), ..Switches::from_env().expect("the switches are valid") };
    let gpu =
        Gpu::open_with(&AdapterChoice::Best, switches).expect("these tests need an adapter: `make setup` installs one");
    // Long enough to be cut, with room for the sums in the memory of dt.
    let tiny = Vim::named("vim-tiny").expect("it is published");
    let vim = Vim { image: [64; 2], hidden: 64, layers: 2, inner: 1024, dt_rank: 4, classes: 10, ..tiny };
    let weights = VimWeights::made_up(&gpu, &vim, WeightFormat::F16).expect("they fit");
    let variants = Variants::of(gpu.caps(), &vim.kernel_sizes(), Math::Exact);
    let forward = VimForward::new(&gpu, &vim, Arc::new(weights), (vim.image, most), &variants).expect("it fits");
    let values = vim.patches(vim.image).values();
    let pixels = Random::new(3).uniforms(3 * values, -1.0, 1.0);
    let mut features = vec![];
    for batch in pixels.chunks(most * values) {
        let count = forward.run(batch).expect("it runs");
        features.extend(at_once(forward.features(count)).expect("it is ready").expect("it runs"));
    }
    features
}

#[test]
fn sums_over_slices_of_k_give_the_same_features_in_batches_of_any_size() {
    if std::env::var_os("PEREGRINE_NO_GPU").is_some_and(|v| v == "1") {
        eprintln!("SKIPPED sums_over_slices_of_k_give_the_same_features_in_batches_of_any_size: PEREGRINE_NO_GPU=1");
        return;
    }
    let (whole, sliced) = (features(1, 3), features(512, 3));
    assert_ne!(whole, sliced, "the sums were not cut");
    let largest = whole.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
    for (i, (whole, sliced)) in whole.iter().zip(&sliced).enumerate() {
        assert!((whole - sliced).abs() < 1e-4 * largest, "[{i}] whole {whole} sliced {sliced}, largest {largest}");
    }
    assert!(features(512, 2) == sliced, "batches of 2 and 1");
}
