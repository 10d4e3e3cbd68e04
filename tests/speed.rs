//! The cost of a token by counts instead of time: dispatches, barriers, submissions, bytes moved.

mod common;

use common::{made_up as forward, made_up_shape as shape, step};
use peregrine::format::WeightFormat;
use peregrine::kernels::select::SamplingParams;
use peregrine::model::{Forward, ForwardOptions, Weights};
use std::sync::Arc;

#[test]
fn a_token_takes_four_dispatches_a_layer_and_one_submission() {
    if common::no_gpu("a_token_takes_four_dispatches_a_layer_and_one_submission") {
        return;
    }
    for layers in [1, 7, 64] {
        let totals = forward(&common::gpu(), &shape(64, layers, 300), WeightFormat::F32).decode_totals(1);
        assert_eq!(totals.dispatches, 4 * layers + 3);
        // All dispatches but the first wait for the previous one.
        assert_eq!(totals.barriers, 4 * layers + 2);
        assert_eq!(totals.submits, 1);
    }
}

/// Sampling from a large vocabulary takes as many stages as the slots' rules need.
#[test]
fn sampling_takes_the_stages_of_its_rules() {
    if common::no_gpu("sampling_takes_the_stages_of_its_rules") {
        return;
    }
    let mut forward = forward(&common::gpu(), &shape(64, 1, 5000), WeightFormat::F32);
    let plain = SamplingParams { temperature: 0.8, ..SamplingParams::GREEDY };
    for (rules, dispatches) in [
        (SamplingParams::GREEDY, 2),
        (plain, 3),
        (SamplingParams { log_min_p: 0.1f32.ln(), ..plain }, 3),
        (SamplingParams { top_k: 40, ..plain }, 5),
        (SamplingParams { top_k: 40, top_p: 0.95, log_min_p: 0.05f32.ln(), ..plain }, 5),
        (SamplingParams { top_k: 1000, ..plain }, 5),
        (SamplingParams { top_p: 0.95, ..plain }, 6),
        (SamplingParams { top_k: 1000, top_p: 0.95, ..plain }, 8),
        (SamplingParams { top_k: 1000, top_p: 0.95, ..SamplingParams::GREEDY }, 2),
    ] {
        forward.set_rules(0, rules).unwrap();
        let totals = forward.decode_totals(1);
        assert_eq!(totals.dispatches, 4 + 2 + dispatches, "{rules:?}");
        assert_eq!(totals.barriers, totals.dispatches - 1, "{rules:?}");
        assert_eq!(totals.submits, 1);
    }
}

#[test]
fn a_token_moves_the_weights_and_the_state_and_little_else() {
    if common::no_gpu("a_token_moves_the_weights_and_the_state_and_little_else") {
        return;
    }
    let gpu = common::gpu();
    for format in WeightFormat::ALL {
        let shape = shape(1024, 4, 4096);
        let weights = Weights::made_up(&gpu, &shape, format, &mut |_| {}).unwrap();
        // All weights except the embedding, of which a token reads one row; the state is read and written once.
        let embedding = (shape.config.vocab * format.device_row_bytes(shape.config.hidden)) as u64;
        let weights_read = gpu.allocated_bytes() - embedding;
        let forward = Forward::new(&gpu, &shape.config, Arc::new(weights), ForwardOptions::default()).unwrap();
        let floor = weights_read + forward.state().slot_bytes();
        let moved = forward.decode_totals(1).bytes;
        let ratio = moved as f64 / floor as f64;
        assert!(
            (0.98..1.02).contains(&ratio),
            "{}: {moved} bytes a token, weights and state are {floor}",
            format.name()
        );
    }
}

#[test]
fn random_weights_are_equal_in_every_float_format() {
    if common::no_gpu("random_weights_are_equal_in_every_float_format") {
        return;
    }
    let shape = shape(64, 2, 300);
    let tokens = [WeightFormat::F32, WeightFormat::F16, WeightFormat::Bf16].map(|format| {
        let mut forward = forward(&common::gpu(), &shape, format);
        forward.set_next(0, 7).unwrap();
        forward.set_decoding(&[0]).unwrap();
        (0..20).map(|_| step(&mut forward)).collect::<Vec<_>>()
    });
    assert_eq!(tokens[0], tokens[1]);
    assert_eq!(tokens[0], tokens[2]);
    assert!(tokens[0].iter().any(|id| *id != tokens[0][0]), "the model says something: {:?}", tokens[0]);
}

#[test]
fn a_token_at_position_100_000_costs_the_same_as_at_100() {
    if common::no_gpu("a_token_at_position_100_000_costs_the_same_as_at_100") {
        return;
    }
    let gpu = common::gpu();
    let mut forward = forward(&gpu, &shape(64, 2, 300), WeightFormat::F32);
    pollster::block_on(forward.prefill(0, &[5; 100], |_| Ok(()))).unwrap();
    let saved = forward.saved().unwrap();
    forward.save(0, 0, &saved).unwrap();
    let mut at = |position: u64| {
        forward.restore(0, position, &saved).unwrap();
        forward.set_next(0, 9).unwrap();
        forward.set_decoding(&[0]).unwrap();
        let tokens: Vec<u32> = (0..5).map(|_| step(&mut forward)).collect();
        assert_eq!(forward.position(0), position + 5);
        (tokens, forward.decode_totals(1), gpu.allocated_bytes())
    };
    assert_eq!(at(100), at(100_000));
}

#[test]
fn a_step_of_eight_rows_reads_no_more_weights_than_one_row() {
    if common::no_gpu("a_step_of_eight_rows_reads_no_more_weights_than_one_row") {
        return;
    }
    let gpu = common::gpu();
    for format in WeightFormat::ALL {
        let forward = forward(&gpu, &shape(256, 2, 300), format);
        let read = |rows| forward.decode_totals(rows).weight_bytes;
        for rows in 2..=8 {
            assert_eq!(read(rows), read(1), "{format}: {rows} rows");
        }
        // In passes of eight rows.
        assert_eq!(read(9), 2 * read(1), "{format}");
        assert_eq!(read(17), 3 * read(1), "{format}");
        let [one, eight] = [1, 8].map(|rows| forward.decode_totals(rows));
        assert_eq!(
            eight.bytes - eight.weight_bytes,
            8 * (one.bytes - one.weight_bytes),
            "{format}: what belongs to a row"
        );
        assert_eq!(eight.macs, 8 * one.macs, "{format}");
    }
}

/// The counted bytes are those of all matrices except the embedding, and of the per-channel constants.
#[test]
fn the_weight_bytes_of_a_step_are_those_of_the_weights() {
    if common::no_gpu("the_weight_bytes_of_a_step_are_those_of_the_weights") {
        return;
    }
    let gpu = common::gpu();
    let shape = shape(1024, 2, 4096);
    let before = gpu.allocated_bytes();
    let weights = Weights::made_up(&gpu, &shape, WeightFormat::F32, &mut |_| {}).unwrap();
    let embedding = (shape.config.vocab * WeightFormat::F32.device_row_bytes(shape.config.hidden)) as u64;
    let held = (gpu.allocated_bytes() - before - embedding) as f64;
    let forward = Forward::new(&gpu, &shape.config, Arc::new(weights), ForwardOptions::default()).unwrap();
    let ratio = forward.decode_totals(8).weight_bytes as f64 / held;
    assert!((0.99..1.01).contains(&ratio), "{ratio}");
}
