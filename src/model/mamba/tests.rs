//! A prefill whose x_proj is cut along k, against one that is not; and the length of chunks in time.

use super::{Family, Mamba};
use crate::format::WeightFormat;
use crate::gpu::{AdapterChoice, Gpu, Switches, at_once};
use crate::model::{Architecture, Config, Forward, ForwardOptions, Logits, Shape, Weights};
use std::sync::Arc;

fn no_gpu(test: &str) -> bool {
    let none = std::env::var_os("PEREGRINE_NO_GPU").is_some_and(|v| v == "1");
    if none {
        eprintln!("SKIPPED {test}: PEREGRINE_NO_GPU=1");
    }
    none
}

/// A model whose k is long enough to be cut, with room for the sums in the memory of dt, on an adapter that such a number of
/// workgroups keeps busy.
fn forward(busy_groups: Option<u32>, layers: usize, chunk: usize) -> Forward {
    let switches = Switches { busy_groups, ..Switches::from_env().expect("the switches are valid") };
    let gpu =
        Gpu::open_with(&AdapterChoice::Best, switches).expect("these tests need an adapter: `make setup` installs one");
    let family = Family::FalconMamba { mixer_rms_eps: 1e-6 };
    let mamba = Mamba { family, inner: 1024, state: 16, dt_rank: 32, conv_kernel: 4, conv_bias: true };
    let architecture = Architecture::Mamba(mamba);
    let config = Config { architecture, vocab: 64, hidden: 128, layers, norm_eps: 1e-5, tied: false, eos: vec![] };
    let shape = Shape { name: "long k".to_owned(), config, tied: false };
    let weights = Weights::made_up(&gpu, &shape, WeightFormat::Bf16, &mut |_| {}).expect("they fit");
    let options = ForwardOptions::default().chunk(chunk);
    Forward::new(&gpu, &shape.config, Arc::new(weights), options).expect("it fits")
}

/// The logits after each token.
fn logits(busy_groups: u32, chunk: usize) -> Vec<f32> {
    let ids: Vec<u32> = (0..37).map(|i| i * 29 % 64).collect();
    let mut logits = vec![];
    let see = |rows: &[f32]| {
        logits.extend_from_slice(rows);
        Ok(())
    };
    let mut forward = forward(Some(busy_groups), 2, chunk);
    at_once(forward.prefill_logits(0, &ids, Logits::All, see)).expect("it is ready").expect("it runs");
    logits
}

#[test]
fn sums_over_slices_of_k_give_the_same_logits_in_chunks_of_any_size() {
    if no_gpu("sums_over_slices_of_k_give_the_same_logits_in_chunks_of_any_size") {
        return;
    }
    let (whole, sliced) = (logits(1, 64), logits(512, 64));
    assert_ne!(whole, sliced, "the sums were not cut");
    let largest = whole.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
    for (i, (whole, sliced)) in whole.iter().zip(&sliced).enumerate() {
        assert!((whole - sliced).abs() < 1e-4 * largest, "[{i}] whole {whole} sliced {sliced}, largest {largest}");
    }
    for chunk in [1, 5, 32] {
        assert!(logits(512, chunk) == sliced, "chunks of {chunk}");
    }
}

#[test]
fn a_chunk_of_over_512_tokens_takes_a_few_submissions() {
    if no_gpu("a_chunk_of_over_512_tokens_takes_a_few_submissions") {
        return;
    }
    let forward = forward(None, 8, 2048);
    let rows = forward.chunk_in_time();
    let submits = |rows: usize| forward.feed_totals(rows).submits;
    // Two neighbors are more than one submission of the longest duration, so there are less than twice as many as its work asks for.
    assert!(rows <= 512 || submits(rows) <= 16, "{rows} tokens in {} submissions", submits(rows));
    if forward.gpu().caps().cpu {
        assert!(submits(2048) > 16 && rows == 512, "{rows} tokens; 2048 in {} submissions", submits(2048));
    }
}
