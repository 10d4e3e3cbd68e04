//! Quantized weights on the device: bit-exact values and the logits that follow.

mod common;

use common::{Expected, close, fixture, gpu, greedy, logits, no_gpu, shipped};
use peregrine::format::{Encoding, Tensor, WeightFormat};
use peregrine::gpu::{Gpu, Plan, Usage};
use peregrine::kernels::linear::Linear;
use peregrine::kernels::{Activation, RowEntry, embed};
use peregrine::model::{Forward, ForwardOptions, WeightOptions, Weights};
use peregrine::runtime::Checkpoint;
use pollster::block_on;
use std::path::PathBuf;
use std::sync::Arc;

/// Tolerance of an f32 implementation against the float64 values.
const LOGITS: f64 = 3e-4;

/// Quantized checkpoints and where their golden values are.
fn checkpoints() -> Vec<(PathBuf, PathBuf)> {
    let folders = ["falcon-tiny-nf4", "falcon-tiny-fp4", "falcon-wide-nf4", "falcon-tiny-int8"].map(fixture);
    let files = ["tiny-F16", "tiny-BF16", "tiny-Q8_0", "tiny-Q4_0", "wide-Q4_K_M", "wide-Q6_K"];
    let files =
        files.map(|name| ["gguf", "expected.safetensors"].map(|end| fixture("gguf").join(format!("{name}.{end}"))));
    let folders = folders.into_iter().map(|dir| (dir.clone(), dir.join("expected.safetensors")));
    folders.chain(files.map(|[model, expected]| (model, expected))).collect()
}

/// The rows of a matrix as the device unpacks them.
fn unpacked(gpu: &Gpu, matrix: &Linear) -> Vec<f32> {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let ids: Vec<RowEntry> = (0..rows as u32).map(|id| RowEntry { id, ..Default::default() }).collect();
    let ids = gpu.upload("rows", &ids, Usage::Storage).unwrap();
    let x = Activation::new(gpu, "x", rows, columns).unwrap();
    let mut plan = Plan::new(gpu, "unpack");
    embed::record(&mut plan, matrix, &ids, &x, None).unwrap();
    plan.run(rows).unwrap();
    block_on(x.read(gpu, rows, 0..columns)).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    // Negative zero equals zero.
    values.iter().map(|v| (v + 0.0).to_bits()).collect()
}

#[test]
fn the_device_unpacks_quantized_files_bit_for_bit() {
    if no_gpu("the_device_unpacks_quantized_files_bit_for_bit") {
        return;
    }
    let gpu = gpu();
    let mut golden = 0;
    for (model, expected) in checkpoints() {
        let (checkpoint, expected) = (Checkpoint::open(&model).unwrap(), Expected::read(&expected));
        let tensors = checkpoint.tensors().unwrap();
        for tensor in tensors.matrices() {
            let what = format!("{}: {}", model.display(), tensor.name);
            let got = unpacked(&gpu, &Linear::load(&gpu, tensor, &mut |_| {}).unwrap());
            assert!(bits(&got) == bits(&tensor.to_f32()), "{what}");
            for key in ["dequant", "dequant_first16rows"].map(|kind| format!("{kind}.{}", tensor.name)) {
                if expected.has(&key) {
                    let values = expected.f32(&key);
                    assert!(bits(&got[..values.len()]) == bits(&values), "{what}: {key}");
                    golden += 1;
                }
            }
        }
    }
    eprintln!("{golden} matrices with golden values");
    assert!(golden >= 16, "{golden}");
}

#[test]
fn quantized_files_give_the_golden_logits_and_greedy_tokens() {
    if no_gpu("quantized_files_give_the_golden_logits_and_greedy_tokens") {
        return;
    }
    let gpu = gpu();
    for (model, expected) in checkpoints() {
        let (checkpoint, expected) = (Checkpoint::open(&model).unwrap(), Expected::read(&expected));
        let weights =
            Weights::load(&gpu, &checkpoint.tensors().unwrap(), WeightOptions::default(), &mut |_| {}).unwrap();
        let mut forward =
            Forward::new(&gpu, checkpoint.config(), Arc::new(weights), ForwardOptions::default()).unwrap();
        let name = model.file_name().unwrap().to_string_lossy().into_owned();
        let mut worst = 0.0f64;
        for length in ["5", "64"] {
            forward.reset(0).unwrap();
            let ids = expected.ids(&format!("ids.{length}"));
            let got = logits(&mut forward, &ids);
            let key = format!("logits.{length}");
            worst = worst.max(close(&format!("{name} {key}"), &got, expected.get(&key), |_| LOGITS));
            let key = format!("greedy.{length}");
            if expected.has(&key) {
                assert_eq!(greedy(&mut forward, &ids, 32), expected.ids(&key), "{name} {key}");
            }
        }
        eprintln!("reached | {name} {} | {} | logits {worst:.1e}", forward.weights().formats(), gpu.info().driver);
    }
}

/// Quantizing while loading gives the quantizer's values, and the model still gives the same text.
#[test]
fn a_model_is_quantized_as_it_is_loaded() {
    if no_gpu("a_model_is_quantized_as_it_is_loaded") {
        return;
    }
    let gpu = gpu();
    let checkpoint = Checkpoint::open(shipped("tiny-chat")).unwrap();
    let tensors = checkpoint.tensors().unwrap();
    let in_proj = &tensors.layers[3].in_proj;
    for format in WeightFormat::ALL {
        let (rows, columns) = (in_proj.rows(), in_proj.columns());
        let blocks = format.encode(&in_proj.to_f32(), columns);
        let quantized = Tensor::of_blocks("W", "test", format, &[rows, columns], &blocks);
        let mut uploads = peregrine::gpu::Uploads::default();
        let matrix = Linear::prepare(&gpu, in_proj, format, &mut uploads).unwrap();
        uploads.run(&gpu, &|_| {}, &mut |_| {}).unwrap();
        assert!(bits(&unpacked(&gpu, &matrix)) == bits(&quantized.to_f32()), "{format}");
    }
    assert!(matches!(in_proj.encoding, Encoding::Blocks(WeightFormat::Bf16)));
}
