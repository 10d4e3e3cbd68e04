//! Models against their golden values and against themselves: any split of a text gives the same numbers.

mod common;

use common::{Expected, close, fixture, gpu, gpu_with, greedy, logits, no_gpu, shipped};
use peregrine::format::WeightFormat;
use peregrine::gpu::{Gpu, Switches};
use peregrine::kernels::linear::Math;
use peregrine::model::reference::Reference;
use peregrine::model::{Forward, ForwardOptions, StateTensor, WeightOptions, Weights};
use peregrine::runtime::Checkpoint;
use pollster::block_on;
use std::path::Path;
use std::sync::Arc;

/// Tolerance of an f32 implementation against the float64 values.
const LOGITS: f64 = 3e-4;
const STATES: f64 = 1e-3;
const TRACES: f64 = 3e-4;
/// The reference computes in f64 from f32 weights and A: -exp(A_log) log2(e) is rounded once, as in the kernels.
const REFERENCE: f64 = 1e-5;

const FALCONS: [&str; 3] = ["falcon-tiny", "falcon-tiny-bf16", "falcon-tiny-f16"];

fn load(gpu: &Gpu, dir: &Path, options: ForwardOptions) -> Forward {
    let checkpoint = Checkpoint::open(dir).unwrap();
    forward(gpu, &checkpoint, options)
}

fn forward(gpu: &Gpu, checkpoint: &Checkpoint, options: ForwardOptions) -> Forward {
    let weights = Weights::load(gpu, &checkpoint.tensors().unwrap(), WeightOptions::default(), &mut |_| {}).unwrap();
    Forward::new(gpu, checkpoint.config(), Arc::new(weights), options).unwrap()
}

fn options(chunk: usize, segments: usize) -> ForwardOptions {
    ForwardOptions::default().chunk(chunk).segments(segments)
}

/// All logits of a prompt, decoded token by token.
fn decoded(forward: &mut Forward, ids: &[u32]) -> Vec<f32> {
    let mut all = Vec::new();
    for id in ids {
        forward.set_next(0, *id).unwrap();
        forward.set_decoding(&[0]).unwrap();
        let step = forward.step().unwrap();
        block_on(forward.chosen(step)).unwrap();
        all.extend(block_on(forward.logits(0, 0)).unwrap());
    }
    all
}

/// Both states of slot 0 in the layout of transformers: `[D, K - 1]` and `[D, N]` per layer.
fn states(forward: &Forward) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let state = block_on(forward.state().read(0, forward.version(0))).unwrap();
    let transposed = |name: &str| -> Vec<Vec<f32>> {
        let layers = state.tensors().filter(|(tensor, _)| tensor.name == name);
        let channels_first = |(tensor, v): (&StateTensor, &[f32])| {
            let d = tensor.shape[1];
            (0..d).flat_map(|c| v.iter().skip(c).step_by(d).copied()).collect()
        };
        layers.map(channels_first).collect()
    };
    (transposed("conv"), transposed("ssm"))
}

struct Worst {
    logits: f64,
    states: f64,
}

fn against_golden(gpu: &Gpu, name: &str, options: ForwardOptions) -> Worst {
    let expected = Expected::read(&fixture(name).join("expected.safetensors"));
    let mut forward = load(gpu, &fixture(name), options);
    golden(&mut forward, &expected, name)
}

fn golden(forward: &mut Forward, expected: &Expected, name: &str) -> Worst {
    let mut worst = Worst { logits: 0.0, states: 0.0 };
    let lengths: Vec<&str> = expected.names().filter_map(|n| n.strip_prefix("logits.")).collect();
    assert!(!lengths.is_empty(), "{name}: no prompts");
    for length in lengths {
        forward.reset(0).unwrap();
        let got = logits(forward, &expected.ids(&format!("ids.{length}")));
        let what = format!("{name} logits.{length}");
        worst.logits = worst.logits.max(close(&what, &got, expected.get(&format!("logits.{length}")), |_| LOGITS));
        let (conv, ssm) = states(forward);
        for (i, (conv, ssm)) in conv.iter().zip(&ssm).enumerate() {
            for (kind, got) in [("conv", conv), ("ssm", ssm)] {
                let key = format!("{kind}_state.{length}.{i}");
                if expected.has(&key) {
                    let error = close(&format!("{name} {key}"), got, expected.get(&key), |_| STATES);
                    worst.states = worst.states.max(error);
                }
            }
        }
    }
    worst
}

fn report(gpu: &Gpu, name: &str, worst: &Worst) {
    let driver = &gpu.info().driver;
    eprintln!("reached | {name} | {driver} | logits {:.1e} | states {:.1e}", worst.logits, worst.states);
}

#[test]
fn logits_and_states_equal_the_golden_values() {
    if no_gpu("logits_and_states_equal_the_golden_values") {
        return;
    }
    let gpu = gpu();
    for name in FALCONS.into_iter().chain(["mamba-tiny"]) {
        for (chunk, segments) in [(512, 1), (64, 4)] {
            let worst = against_golden(&gpu, name, options(chunk, segments));
            report(&gpu, &format!("{name} chunk {chunk} segments {segments}"), &worst);
        }
    }
}

#[test]
fn the_reference_equals_the_golden_values() {
    for name in FALCONS.into_iter().chain(["mamba-tiny"]) {
        let expected = Expected::read(&fixture(name).join("expected.safetensors"));
        let checkpoint = Checkpoint::open(fixture(name)).unwrap();
        let reference = Reference::new(checkpoint.config(), &checkpoint.tensors().unwrap());
        for length in ["5", "64"] {
            let mut state = reference.start();
            let mut compared = 0;
            // falcon-tiny has its traces for prompt 64, mamba-tiny for prompt 5.
            let traced = expected.has("trace.embed") && expected.shape("trace.embed")[0].to_string() == length;
            let tap = |tap: &str, values: &[f64]| {
                let (key, _) = trace_key(tap);
                if traced && expected.has(&key) {
                    let got: Vec<f32> = values.iter().map(|v| *v as f32).collect();
                    close(&key, &got, expected.get(&key), |e| REFERENCE * e.abs().max(1.0));
                    compared += 1;
                }
            };
            let got = reference.forward(&expected.ids(&format!("ids.{length}")), &mut state, tap).unwrap();
            let got: Vec<f32> = got.iter().map(|v| *v as f32).collect();
            close(name, &got, expected.get(&format!("logits.{length}")), |_| 2e-5);
            assert_eq!(compared > 0, traced, "{name}: traces of prompt {length}");
        }
    }
}

/// A tap's name in the fixture: `layer.0.norm` is `trace.0.norm`.
fn trace_key(tap: &str) -> (String, bool) {
    match tap.strip_prefix("layer.") {
        Some(rest) => (format!("trace.{rest}"), true),
        None => (format!("trace.{tap}"), false),
    }
}

#[test]
fn every_tap_equals_its_trace() {
    if no_gpu("every_tap_equals_its_trace") {
        return;
    }
    let gpu = gpu();
    for (name, length) in [("falcon-tiny", "64"), ("mamba-tiny", "5")] {
        let expected = Expected::read(&fixture(name).join("expected.safetensors"));
        let mut forward = load(&gpu, &fixture(name), options(64, 1));
        let taps = block_on(forward.trace(0, &expected.ids(&format!("ids.{length}")))).unwrap();
        let mut worst = 0.0f64;
        for tap in &taps {
            let (key, _) = trace_key(&tap.name);
            let limit = |e: f64| TRACES * e.abs().max(1.0);
            worst = worst.max(close(&format!("{name} {key}"), &tap.values, expected.get(&key), limit));
        }
        eprintln!("reached | {name} traces | {} taps | {worst:.1e}", taps.len());
        assert_eq!(taps.len(), 1 + 10 * forward.config().layers, "{name}: taps");
    }
}

#[test]
fn any_chunk_size_gives_the_same_bits() {
    if no_gpu("any_chunk_size_gives_the_same_bits") {
        return;
    }
    let gpu = gpu();
    for name in ["falcon-tiny", "falcon-tiny-bf16", "mamba-tiny"] {
        let expected = Expected::read(&fixture(name).join("expected.safetensors"));
        let ids = expected.ids("ids.64");
        let mut first: Option<(Vec<f32>, _)> = None;
        for chunk in [512, 64, 3, 1] {
            let mut forward = load(&gpu, &fixture(name), options(chunk, 1));
            let got = (logits(&mut forward, &ids), states(&forward));
            match &first {
                None => first = Some(got),
                Some(first) => {
                    assert!(
                        first.0.iter().zip(&got.0).all(|(a, b)| a.to_bits() == b.to_bits()),
                        "{name} {chunk}: logits"
                    );
                    assert!(first.1 == got.1, "{name} in chunks of {chunk}: states");
                }
            }
        }
    }
}

#[test]
fn decoding_token_by_token_equals_one_prefill() {
    if no_gpu("decoding_token_by_token_equals_one_prefill") {
        return;
    }
    let gpu = gpu();
    for name in FALCONS.into_iter().chain(["mamba-tiny"]) {
        let expected = Expected::read(&fixture(name).join("expected.safetensors"));
        let mut forward = load(&gpu, &fixture(name), options(64, 1));
        let got = decoded(&mut forward, &expected.ids("ids.64"));
        let worst = close(name, &got, expected.get("logits.64"), |_| LOGITS);
        eprintln!("reached | {name} decoded | logits {worst:.1e}");
        let (_, ssm) = states(&forward);
        for (i, ssm) in ssm.iter().enumerate().filter(|(i, _)| expected.has(&format!("ssm_state.64.{i}"))) {
            close(name, ssm, expected.get(&format!("ssm_state.64.{i}")), |_| STATES);
        }
    }
}

#[test]
fn greedy_continuations_equal_the_golden_ones() {
    if no_gpu("greedy_continuations_equal_the_golden_ones") {
        return;
    }
    let gpu = gpu();
    for name in FALCONS.into_iter().chain(["mamba-tiny"]) {
        let expected = Expected::read(&fixture(name).join("expected.safetensors"));
        let mut forward = load(&gpu, &fixture(name), options(16, 1));
        for length in ["5", "64"].into_iter().filter(|l| expected.has(&format!("greedy.{l}"))) {
            let got = greedy(&mut forward, &expected.ids(&format!("ids.{length}")), 32);
            assert_eq!(got, expected.ids(&format!("greedy.{length}")), "{name} after {length}");
        }
    }
}

#[test]
fn weights_in_shards_give_the_same_bits() {
    if no_gpu("weights_in_shards_give_the_same_bits") {
        return;
    }
    let whole = gpu();
    // 2 KiB: in_proj of falcon-tiny in 32 shards, and every chunk of a few tokens only.
    let adapter = Switches::from_env().unwrap().adapter;
    let cut = gpu_with(Switches { adapter, binding_limit: Some(2048), ..Default::default() });
    for name in ["falcon-tiny", "falcon-tiny-f16", "mamba-tiny"] {
        let expected = Expected::read(&fixture(name).join("expected.safetensors"));
        let ids = expected.ids("ids.64");
        let mut forward = load(&whole, &fixture(name), options(64, 1));
        let mut sharded = load(&cut, &fixture(name), options(64, 1));
        assert!(sharded.weights().most_shards() > 8 && forward.weights().most_shards() == 1);
        assert!(sharded.chunk() < 64, "{name}: chunks of {}", sharded.chunk());
        assert!(logits(&mut forward, &ids) == logits(&mut sharded, &ids), "{name}: prefill");
        for forward in [&mut forward, &mut sharded] {
            forward.reset(0).unwrap();
        }
        assert!(decoded(&mut forward, &ids) == decoded(&mut sharded, &ids), "{name}: decode");
    }
}

#[test]
fn without_subgroups_the_golden_values_hold() {
    if no_gpu("without_subgroups_the_golden_values_hold") {
        return;
    }
    let adapter = Switches::from_env().unwrap().adapter;
    let gpu = gpu_with(Switches { adapter, without_subgroups: true, without_f16: true, ..Default::default() });
    for name in FALCONS.into_iter().chain(["mamba-tiny"]) {
        let worst = against_golden(&gpu, name, options(64, 1));
        report(&gpu, &format!("{name} without subgroups"), &worst);
        let expected = Expected::read(&fixture(name).join("expected.safetensors"));
        let mut forward = load(&gpu, &fixture(name), options(64, 1));
        close(name, &decoded(&mut forward, &expected.ids("ids.64")), expected.get("logits.64"), |_| LOGITS);
    }
}

/// The driver reads lavapipe's vector width, and thus its subgroup size, once: a process for each width.
#[test]
fn every_subgroup_size_gives_the_golden_values() {
    let this = "every_subgroup_size_gives_the_golden_values";
    if no_gpu(this) {
        return;
    }
    if std::env::var_os("SUBGROUP_CHILD").is_some() {
        let gpu = gpu();
        let lanes = gpu.caps().subgroup_max;
        assert_eq!(Some(lanes.to_string()), std::env::var("SUBGROUP_CHILD").ok(), "the driver took the width");
        for name in ["falcon-tiny", "falcon-tiny-bf16", "mamba-tiny"] {
            let worst = against_golden(&gpu, name, options(64, 1));
            report(&gpu, &format!("{name} subgroups of {lanes}"), &worst);
            let expected = Expected::read(&fixture(name).join("expected.safetensors"));
            let mut forward = load(&gpu, &fixture(name), options(64, 1));
            close(name, &decoded(&mut forward, &expected.ids("ids.64")), expected.get("logits.64"), |_| LOGITS);
        }
        return;
    }
    if !gpu().info().name.contains("llvmpipe") {
        eprintln!("SKIPPED {this}: only lavapipe's subgroups can be set");
        return;
    }
    for (bits, lanes) in [("128", "4"), ("256", "8"), ("512", "16")] {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([this, "--exact", "--nocapture"])
            .env("SUBGROUP_CHILD", lanes)
            .env("LP_NATIVE_VECTOR_WIDTH", bits)
            // The driver's cache does not distinguish widths and would return kernels of another.
            .env("MESA_SHADER_CACHE_DISABLE", "true")
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&child.stderr).into_owned();
        log.lines().filter(|line| line.starts_with("reached")).for_each(|line| eprintln!("{line}"));
        assert!(child.status.success(), "{lanes} lanes: {log}{}", String::from_utf8_lossy(&child.stdout));
    }
}

#[test]
fn a_batch_gives_each_row_its_own_bits() {
    if no_gpu("a_batch_gives_each_row_its_own_bits") {
        return;
    }
    let gpu = gpu();
    let expected = Expected::read(&fixture("falcon-tiny").join("expected.safetensors"));
    let ids = expected.ids("ids.64");
    let slots = 17;
    // Slot s reads its own text, then all decode together; alone each gives the same.
    let prompt = |s: usize| &ids[s * 2..s * 3 + 3];
    let run = |forward: &mut Forward, members: &[usize]| -> Vec<Vec<f32>> {
        for s in members {
            forward.reset(*s).unwrap();
            pollster::block_on(forward.prefill(*s, prompt(*s), |_| Ok(()))).unwrap();
            forward.set_next(*s, ids[40 + *s]).unwrap();
        }
        forward.set_decoding(members).unwrap();
        let mut rows = vec![Vec::new(); members.len()];
        for _ in 0..6 {
            let step = forward.step().unwrap();
            block_on(forward.chosen(step)).unwrap();
            for (r, row) in rows.iter_mut().enumerate() {
                row.extend(block_on(forward.logits(members[r], 0)).unwrap());
            }
        }
        rows
    };
    let mut forward = load(&gpu, &fixture("falcon-tiny"), ForwardOptions::default().slots(slots).chunk(16));
    let alone: Vec<Vec<f32>> = (0..slots).map(|s| run(&mut forward, &[s]).swap_remove(0)).collect();
    assert!(alone[0] != alone[1]);
    for rows in [2, 3, 5, 8, 16, 17] {
        let members: Vec<usize> = (0..rows).map(|row| (row * 3 + rows) % slots).collect();
        for (row, bits) in run(&mut forward, &members).iter().enumerate() {
            assert!(*bits == alone[members[row]], "slot {} alone and in row {row} of {rows}", members[row]);
        }
    }
}

/// Fast arithmetic, also in shards, with a format whose groups are split, and with matrices of different formats.
#[test]
fn a_batch_of_fast_steps_gives_each_row_its_own_bits() {
    if no_gpu("a_batch_of_fast_steps_gives_each_row_its_own_bits") {
        return;
    }
    let limits = [None, Some(4096)];
    let of_limit = limits.map(|binding_limit| {
        let gpu = gpu_with(Switches { binding_limit, checked: Some(false), ..Switches::from_env().unwrap() });
        let shape = common::made_up_shape(96, 2, 300);
        let weights = Arc::new(Weights::made_up(&gpu, &shape, WeightFormat::Q4_0, &mut |_| {}).unwrap());
        let new = |slots, math| {
            let options = ForwardOptions::default().slots(slots).chunk(32).math(math);
            Forward::new(&gpu, &shape.config, weights.clone(), options).unwrap()
        };
        let steps = |forward: &mut Forward, slots: &[usize]| -> Vec<Vec<u32>> {
            for step in 0..3 {
                slots.iter().enumerate().for_each(|(i, slot)| forward.set_next(*slot, (7 * i + step) as u32).unwrap());
                forward.set_decoding(slots).unwrap();
                let step = forward.step().unwrap();
                block_on(forward.chosen(step)).unwrap();
            }
            let logits = slots.iter().map(|slot| block_on(forward.logits(*slot, 0)).unwrap());
            logits.map(|logits| logits.into_iter().map(f32::to_bits).collect()).collect()
        };
        let mut fast = new(9, Math::Fast);
        let forms = fast.variants().to_string();
        assert_eq!(forms.matches("int8 x").count(), 3, "{forms}");
        let together = steps(&mut fast, &[3, 1, 4, 0, 5, 8, 2, 6, 7]);
        let alone = steps(&mut new(1, Math::Fast), &[0]);
        assert_eq!(together[0], alone[0]);
        // Another class of arithmetic: different bits, but close.
        let exact = steps(&mut new(1, Math::Exact), &[0]);
        assert_ne!(alone[0], exact[0]);
        let error = |(a, b): (&u32, &u32)| (f32::from_bits(*a) - f32::from_bits(*b)).abs();
        let most = alone[0].iter().zip(&exact[0]).map(error).fold(0.0, f32::max);
        let largest = exact[0].iter().map(|bits| f32::from_bits(*bits).abs()).fold(0.0, f32::max);
        assert!(most < 0.05 * largest, "off by {most} of {largest}");
        together
    });
    assert_eq!(of_limit[0], of_limit[1]);
}

#[test]
fn a_padded_row_changes_no_state() {
    if no_gpu("a_padded_row_changes_no_state") {
        return;
    }
    // A chunk of 5 on a plan for 64, after a chunk of 64 has filled every buffer: the 64 must have no effect.
    let gpu = gpu();
    let expected = Expected::read(&fixture("falcon-tiny").join("expected.safetensors"));
    let (long, short) = (expected.ids("ids.64"), expected.ids("ids.5"));
    for segments in [1, 4] {
        let mut fresh = load(&gpu, &fixture("falcon-tiny"), options(64, segments));
        let mut used = load(&gpu, &fixture("falcon-tiny"), options(64, segments));
        logits(&mut used, &long);
        used.reset(0).unwrap();
        assert!(logits(&mut fresh, &short) == logits(&mut used, &short), "{segments} segments: logits");
        assert!(states(&fresh) == states(&used), "{segments} segments: states");
    }
}

#[test]
fn steps_that_ran_ahead_are_taken_back_completely() {
    if no_gpu("steps_that_ran_ahead_are_taken_back_completely") {
        return;
    }
    let gpu = gpu();
    let expected = Expected::read(&fixture("falcon-tiny").join("expected.safetensors"));
    let ids = expected.ids("ids.64");
    let mut straight = load(&gpu, &fixture("falcon-tiny"), options(64, 1));
    let straight_logits = decoded(&mut straight, &ids);
    let mut wavering = load(&gpu, &fixture("falcon-tiny"), options(64, 1));
    let mut got = Vec::new();
    for id in &ids {
        // First a wrong token, which is taken back.
        got.extend(decoded(&mut wavering, &[*id]));
        decoded(&mut wavering, &[(*id + 17) % 300]);
        wavering.take_back(0, 1);
    }
    assert!(got == straight_logits);
    assert!(states(&wavering) == states(&straight));
}

#[test]
fn mamba_ssm_names_and_padding_load() {
    if no_gpu("mamba_ssm_names_and_padding_load") {
        return;
    }
    // The original checkpoint is a pickle; its weights are those of mamba-tiny in f16, under the names of mamba_ssm.
    let bytes = std::fs::read(fixture("mamba-tiny").join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, view) in file.iter() {
        let halves = view
            .data()
            .chunks_exact(4)
            .flat_map(|b| half::f16::from_f32(f32::from_le_bytes(b.try_into().unwrap())).to_le_bytes());
        let name = name.replace("embeddings", "embedding");
        let halves: Vec<u8> = halves.collect();
        if name.contains("embedding") {
            tensors.push(("lm_head.weight".to_owned(), view.shape().to_vec(), halves.clone()));
        }
        tensors.push((name, view.shape().to_vec(), halves));
    }
    let views = tensors.iter().map(|(name, shape, data)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F16, shape.clone(), data).unwrap())
    });
    let dir = tempfile::tempdir().unwrap();
    safetensors::serialize_to_file(views, None, &dir.path().join("model.safetensors")).unwrap();
    std::fs::copy(fixture("mamba-tiny-original").join("config.json"), dir.path().join("config.json")).unwrap();
    let mut forward = load(&gpu(), dir.path(), options(64, 1));
    assert!(forward.weights().tied(), "the head is the embedding once more");
    let expected = Expected::read(&fixture("mamba-tiny-original").join("expected.safetensors"));
    let worst = golden(&mut forward, &expected, "mamba-tiny-original");
    eprintln!("reached | mamba-tiny-original | logits {:.1e} | states {:.1e}", worst.logits, worst.states);
}

#[test]
fn scan_cases_hold_in_one_segment_and_in_many() {
    if no_gpu("scan_cases_hold_in_one_segment_and_in_many") {
        return;
    }
    let gpu = gpu();
    let cases = Expected::read(&fixture("scan").join("cases.safetensors"));
    let names: std::collections::BTreeSet<&str> = cases.names().filter_map(|n| n.strip_suffix(".u")).collect();
    assert_eq!(names.len(), 12);
    for name in names {
        for segment in [usize::MAX, 16, 64] {
            common::scan_case(&gpu, &cases, name, segment);
        }
    }
}

#[test]
fn induction_heads_answers_rightly_at_every_length() {
    if no_gpu("induction_heads_answers_rightly_at_every_length") {
        return;
    }
    let gpu = gpu();
    let checkpoint = Checkpoint::open(shipped("induction-heads")).unwrap();
    let tokenizer = checkpoint.tokenizer().unwrap();
    let mut forward = forward(&gpu, &checkpoint, options(512, 1));
    let text = std::fs::read_to_string(shipped("induction-heads").join("eval.jsonl")).unwrap();
    let (mut longest, mut asked) = (0, 0);
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let ids = tokenizer.encode(case["prompt"].as_str().unwrap(), peregrine::text::Specials::Parse).unwrap();
        assert_eq!(ids.len() as u64, case["length"].as_u64().unwrap());
        forward.reset(0).unwrap();
        pollster::block_on(forward.prefill(0, &ids, |_| Ok(()))).unwrap();
        let choice = forward.choose_after(0).unwrap();
        let id = block_on(forward.chosen(choice)).unwrap()[0];
        assert_eq!(tokenizer.decode(&[id]), case["answer"].as_str().unwrap(), "at length {}", ids.len());
        longest = longest.max(ids.len());
        asked += 1;
    }
    assert!(longest == 4096 && asked > 20, "{asked} prompts up to {longest}");
}

#[test]
fn odd_shapes_agree_with_the_reference() {
    if no_gpu("odd_shapes_agree_with_the_reference") {
        return;
    }
    let gpu = gpu();
    let odd = common::Shape { vocab: 131, hidden: 37, inner: 53, dt_rank: 5, ..common::TINY };
    let shapes = [
        common::TINY,
        odd,
        common::Shape { state: 8, kernel: 3, tied: true, ..odd },
        common::Shape { state: 32, falcon: false, format: WeightFormat::F16, ..odd },
        common::Shape { state: 16, kernel: 2, format: WeightFormat::Bf16, tied: true, falcon: false, ..odd },
        common::Shape { state: 1, hidden: 1, inner: 1, dt_rank: 1, vocab: 1, layers: 1, ..odd },
        common::Shape { state: 64, kernel: 16, inner: 200, hidden: 130, dt_rank: 33, layers: 3, ..odd },
    ];
    let random = &mut peregrine::kernels::case::Random::new(3);
    for shape in shapes {
        let dir = tempfile::tempdir().unwrap();
        shape.write(dir.path());
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let reference = Reference::new(checkpoint.config(), &checkpoint.tensors().unwrap());
        let ids: Vec<u32> = (0..29).map(|_| random.below(shape.vocab) as u32).collect();
        let expected = reference.forward(&ids, &mut reference.start(), |_, _| {}).unwrap();
        let mut worst = 0.0f64;
        for (chunk, segments) in [(64, 1), (7, 3)] {
            let mut forward = forward(&gpu, &checkpoint, options(chunk, segments));
            assert_eq!(forward.weights().tied(), shape.tied);
            let what = format!("{shape:?} chunk {chunk} segments {segments}");
            worst = worst.max(close(&what, &logits(&mut forward, &ids), &expected, |_| LOGITS));
            forward.reset(0).unwrap();
            worst = worst.max(close(&format!("{what} decoded"), &decoded(&mut forward, &ids), &expected, |_| LOGITS));
        }
        eprintln!("reached | {shape:?} | logits {worst:.1e}");
    }
}
