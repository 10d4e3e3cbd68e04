//! A small DeiT against a plain implementation in f64.

use super::weights::{Biased, Layer, Norm};
use super::{Attention, Deit, DeitForward, DeitWeights, PictureBatch};
use crate::error::Error;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{AdapterChoice, Gpu, Usage, at_once};
use crate::kernels::case::{Random, wide};
use crate::kernels::linear::{Linear, Math, cpu as product};
use crate::kernels::maths::gelu;
use crate::kernels::variants::Variants;
use crate::kernels::{layer_norm, padded_rows};
use crate::model::Vim;

fn gpu(test: &str) -> Option<Gpu> {
    if std::env::var_os("PEREGRINE_NO_GPU").is_some_and(|v| v == "1") {
        eprintln!("SKIPPED {test}: PEREGRINE_NO_GPU=1");
        return None;
    }
    Some(Gpu::open(&AdapterChoice::Best).expect("these tests need an adapter: `make setup` installs one"))
}

fn variants(gpu: &Gpu) -> Variants {
    let sizes = Vim::named("vim-tiny").expect("it is published").kernel_sizes();
    Variants::of(gpu.caps(), &sizes, Math::Exact)
}

/// 17 tokens: 16 patches of 4x4.
const IMAGE: [usize; 2] = [16, 16];

fn small() -> Deit {
    Deit { channels: 3, patch: 4, hidden: 64, layers: 2, heads: 2, mlp: 256, classes: 10, norm_eps: 1e-6 }
}

/// A matrix with its bias, or a norm's weight and bias, on the host.
struct Host {
    rows: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Weights on the host: of the patches; norm1, qkv, proj, norm2, fc1 and fc2 of each layer; of the last norm and the head.
struct HostWeights {
    patches: Host,
    layers: Vec<[Host; 6]>,
    norm: Host,
    head: Host,
    positions: Vec<f32>,
}

impl HostWeights {
    fn new(deit: &Deit) -> Self {
        let mut random = Random::new(3);
        let e = deit.hidden;
        let mut matrix = |rows: usize, columns: usize| {
            let most = (3.0 / columns as f32).sqrt();
            let weight = random.uniforms(rows * columns, -most, most);
            Host { rows, weight, bias: random.uniforms(rows, -0.3, 0.3) }
        };
        let norm = |mut host: Host| {
            host.weight.truncate(host.rows);
            host.weight.iter_mut().for_each(|v| *v += 1.0);
            host
        };
        let layers = (0..deit.layers)
            .map(|_| {
                let [qkv, proj, fc1, fc2] = deit.layer_matrices().map(|[rows, columns]| matrix(rows, columns));
                let [norm1, norm2] = [norm(matrix(e, 4)), norm(matrix(e, 4))];
                [norm1, qkv, proj, norm2, fc1, fc2]
            })
            .collect();
        let cut = deit.patches(IMAGE);
        HostWeights {
            layers,
            patches: matrix(e, cut.columns()),
            norm: norm(matrix(e, 4)),
            head: matrix(deit.classes, e),
            positions: random.uniforms(cut.tokens() * e, -0.5, 0.5),
        }
    }

    fn on_device(&self, gpu: &Gpu) -> DeitWeights {
        let vector = |values: &[f32]| gpu.upload("vector", &padded_rows(values, values.len()), Usage::Storage).unwrap();
        let linear = |host: &Host| {
            let bytes: Vec<u8> = host.weight.iter().flat_map(|v| v.to_le_bytes()).collect();
            let shape = [host.rows, host.weight.len() / host.rows];
            Linear::load(gpu, &Tensor::of_blocks("W", "test", WeightFormat::F32, &shape, &bytes), &mut |_| {}).unwrap()
        };
        let biased = |host: &Host| Biased { matrix: linear(host), bias: vector(&host.bias) };
        let norm = |host: &Host| Norm { weight: vector(&host.weight), bias: vector(&host.bias) };
        let layer = |[norm1, qkv, proj, norm2, fc1, fc2]: &[Host; 6]| Layer {
            norm1: norm(norm1),
            qkv: biased(qkv),
            proj: biased(proj),
            norm2: norm(norm2),
            fc1: biased(fc1),
            fc2: biased(fc2),
        };
        DeitWeights {
            patch_embed: linear(&self.patches),
            layers: self.layers.iter().map(layer).collect(),
            norm: norm(&self.norm),
            head: biased(&self.head),
        }
    }

    /// Logits of one picture.
    fn reference(&self, deit: &Deit, pixels: &[f32]) -> Vec<f64> {
        let biased = |x: &[f64], host: &Host| -> Vec<f64> {
            let y = product(x, &host.weight, host.weight.len() / host.rows);
            y.iter().enumerate().map(|(i, y)| y + f64::from(host.bias[i % host.rows])).collect()
        };
        let norm = |x: &[f64], host: &Host| layer_norm::cpu(x, &host.weight, &host.bias, deit.norm_eps);
        let add = |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x + y).collect() };
        let cut = deit.patches(IMAGE);
        let embedded = product(&cut.cpu(pixels), &self.patches.weight, cut.columns());
        let mut x = add(&embedded, &wide(&self.positions));
        for [norm1, qkv, proj, norm2, fc1, fc2] in &self.layers {
            let attended = deit.heads(cut.tokens()).cpu(&biased(&norm(&x, norm1), qkv));
            x = add(&x, &biased(&attended, proj));
            let inside: Vec<f64> = biased(&norm(&x, norm2), fc1).into_iter().map(gelu).collect();
            x = add(&x, &biased(&inside, fc2));
        }
        biased(&norm(&x[..deit.hidden], &self.norm), &self.head)
    }
}

#[test]
fn a_small_model_equals_a_plain_implementation_and_a_batch_its_pictures_bit_for_bit() {
    let Some(gpu) = gpu("a_small_model_equals_a_plain_implementation_and_a_batch_its_pictures_bit_for_bit") else {
        return;
    };
    let (deit, variants) = (small(), variants(&gpu));
    let host = HostWeights::new(&deit);
    let picture = deit.patches(IMAGE).values();
    let pixels = Random::new(4).uniforms(2 * picture, -2.0, 2.0);
    let mut of_kinds = Vec::new();
    for attention in Attention::ALL {
        let logits = |pixels: &[f32]| {
            let batch = PictureBatch { image: IMAGE, pictures: pixels.len() / picture, attention };
            let weights = (host.on_device(&gpu), &host.positions[..]);
            let forward = DeitForward::with_positions(&gpu, &deit, weights, batch, &variants).unwrap();
            forward.run(pixels).unwrap();
            let read = || at_once(forward.logits()).expect("natively it is ready at its first poll").unwrap();
            let first = read();
            // Activations share memory: a second run must not see the first.
            forward.run(pixels).unwrap();
            assert_eq!(first, read(), "{attention}: a second run");
            first
        };
        let both = logits(&pixels);
        for (i, pixels) in pixels.chunks_exact(picture).enumerate() {
            let alone = logits(pixels);
            let of_batch = &both[i * deit.classes..][..deit.classes];
            assert!(alone.iter().zip(of_batch).all(|(a, b)| a.to_bits() == b.to_bits()), "{attention}: picture {i}");
            let expected = host.reference(&deit, pixels);
            let errors = alone.iter().zip(&expected).map(|(got, expected)| (f64::from(*got) - expected).abs());
            let worst = errors.fold(0.0, f64::max);
            let largest = expected.iter().fold(0.0f64, |most, v| most.max(v.abs()));
            eprintln!("{attention}, picture {i}: off by {worst:.1e}, logits up to {largest:.1}");
            assert!(worst < 2e-5 && largest > 0.3, "{attention}, picture {i}: {alone:?} {expected:?}");
        }
        of_kinds.push(both);
    }
    // Pictures differ, so that the comparison can fail.
    let (first, second) = of_kinds[0].split_at(deit.classes);
    assert!(first.iter().zip(second).any(|(a, b)| (a - b).abs() > 1e-2), "{first:?} {second:?}");
}

#[test]
fn a_plan_allocates_what_was_computed() {
    let Some(gpu) = gpu("a_plan_allocates_what_was_computed") else { return };
    let variants = variants(&gpu);
    // With and without activations that share memory.
    for deit in [small(), Deit { layers: 1, ..Deit::named("deit-tiny").unwrap() }] {
        for (attention, pictures) in [(Attention::Tiled, 1), (Attention::Stored, 1), (Attention::Stored, 3)] {
            let batch = PictureBatch { image: [48, 64], pictures, attention };
            let before = gpu.allocated_bytes();
            let weights = DeitWeights::made_up(&gpu, &deit, WeightFormat::F32).unwrap();
            let forward = DeitForward::new(&gpu, &deit, weights, batch, &variants).unwrap();
            let allocated = gpu.allocated_bytes() - before;
            let planned = deit.weight_bytes(WeightFormat::F32) + deit.activation_bytes(&batch);
            // Each dispatch has parameters besides.
            let most = planned + 64 * (forward.totals().dispatches as u64 + 2);
            assert!((planned..=most).contains(&allocated), "{attention} {pictures}: {allocated}, planned {planned}");
        }
    }
}

#[test]
fn stored_scores_that_cannot_be_bound_are_refused_with_their_size() {
    let caps = crate::gpu::Caps::portable();
    let deit = Deit::named("deit-tiny").unwrap();
    let batch = |side, attention| PictureBatch { image: [side; 2], pictures: 1, attention };
    // 6085 tokens: 148 MB a head, beyond the 128 MiB of a portable binding.
    match deit.check(&caps, &batch(1248, Attention::Stored)) {
        Err(Error::ScoresTooLarge { tokens: 6085, bytes, .. }) => assert_eq!(bytes, 6085 * 6088 * 4),
        other => panic!("{other:?}"),
    }
    deit.check(&caps, &batch(1248, Attention::Tiled)).unwrap();
    let bytes = |side, attention| deit.activation_bytes(&batch(side, attention));
    assert!(bytes(1248, Attention::Tiled) < 64 << 20 && bytes(1248, Attention::Stored) > 6 * 148_000_000);
    let [small, large] = [224, 896].map(|side| bytes(side, Attention::Stored));
    assert!(large > 50 * small, "stored scores grow with the square of the tokens: {small}, {large}");
    assert!(matches!(deit.check(&caps, &batch(8, Attention::Tiled)), Err(Error::BadSetting { .. })));
}

#[test]
fn published_shapes_have_their_parameters() {
    let millions = |name: &str| (Deit::named(name).unwrap().parameters([224; 2]) as f64 / 1e5).round() / 10.0;
    assert_eq!(["deit-tiny", "deit-small", "deit-base"].map(millions), [5.7, 22.1, 86.6]);
}
