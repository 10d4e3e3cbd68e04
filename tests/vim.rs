//! Vision Mamba against golden values: logits, features and values inside the model; batches, resolutions, directions.

mod common;

use common::{Expected, close, fixture};
use peregrine::format::{TensorSource, WeightFormat};
use peregrine::gpu::Gpu;
use peregrine::kernels::linear::Math;
use peregrine::kernels::variants::Variants;
use peregrine::model::{Recipe, Vim, VimForward, VimTensors, VimWeights};
use pollster::block_on;
use std::path::Path;
use std::sync::Arc;

/// A checkpoint on the device.
struct Loaded {
    gpu: Gpu,
    vim: Vim,
    weights: Arc<VimWeights>,
    variants: Variants,
}

impl Loaded {
    fn open(gpu: &Gpu, dir: &Path, recipe: Recipe) -> Self {
        let config = std::fs::read(dir.join("config.json")).unwrap();
        let source = TensorSource::open(dir).unwrap();
        let vim = Vim::from_json("config.json", &serde_json::from_slice(&config).unwrap(), &source).unwrap();
        let tensors = VimTensors::find(&vim, &source).unwrap();
        let weights = Arc::new(VimWeights::load(gpu, &tensors, recipe, &mut |_| {}).unwrap());
        let variants = block_on(Variants::tried(gpu, Math::Exact, &vim.kernel_sizes())).unwrap();
        Loaded { gpu: gpu.clone(), vim, weights, variants }
    }

    fn forward(&self, image: [usize; 2], most: usize) -> VimForward {
        VimForward::new(&self.gpu, &self.vim, self.weights.clone(), (image, most), &self.variants).unwrap()
    }
}

/// Logits and features of a batch.
fn run(forward: &VimForward, pixels: &[f32]) -> [Vec<f32>; 2] {
    let count = forward.run(pixels).unwrap();
    [block_on(forward.logits(count)).unwrap(), block_on(forward.features(count)).unwrap()]
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

const FIXTURES: [&str; 2] = ["vim-tiny", "vim-tiny-s8"];

/// Largest error of features and logits allowed.
const LIMIT: f64 = 1e-4;

#[test]
fn logits_and_features_equal_the_reference() {
    if common::no_gpu("logits_and_features_equal_the_reference") {
        return;
    }
    let gpu = common::gpu();
    for name in FIXTURES {
        let loaded = Loaded::open(&gpu, &fixture(name), Recipe::AsStored);
        let golden = Expected::read(&fixture(name).join("expected.safetensors"));
        let forward = loaded.forward(loaded.vim.image, 2);
        for picture in 0..2 {
            let [logits, features] = run(&forward, &golden.f32(&format!("image.{picture}")));
            for (what, got) in [("logits", logits), ("features", features)] {
                let what = format!("{what}.{picture}");
                let worst = close(&format!("{name} {what}"), &got, golden.get(&what), |_| LIMIT);
                eprintln!("{name} {what}: {worst:.1e}");
            }
        }
    }
}

#[test]
fn values_inside_the_model_equal_the_reference() {
    if common::no_gpu("values_inside_the_model_equal_the_reference") {
        return;
    }
    let gpu = common::gpu();
    let loaded = Loaded::open(&gpu, &fixture("vim-tiny"), Recipe::AsStored);
    let golden = Expected::read(&fixture("vim-tiny").join("expected.safetensors"));
    let forward = loaded.forward(loaded.vim.image, 1);
    let mut seen = 0;
    let mut before: Vec<f32> = Vec::new();
    let check = |name: &str, got: &[f32]| {
        let worst = close(name, got, golden.get(&format!("trace.{name}")), |_| LIMIT);
        eprintln!("{name}: {worst:.1e}");
    };
    let pixels = golden.f32("image.0");
    let count = block_on(forward.run_tapped(
        &pixels,
        |_, _| true,
        |tap| {
            seen += 1;
            match (tap.layer, tap.name) {
                (None, _) => check("tokens", tap.values),
                (Some(layer), "norm") => check(&format!("{layer}.norm"), tap.values),
                (Some(layer), "forward") => check(&format!("{layer}.fwd"), tap.values),
                (Some(layer), "backward") => check(&format!("{layer}.bwd"), tap.values),
                (Some(layer), _) => {
                    // The reference has what the layer adds to the stream.
                    let out: Vec<f32> = tap.values.iter().zip(&before).map(|(x, before)| x - before).collect();
                    check(&format!("{layer}.out"), &out);
                }
            }
            if matches!(tap.name, "tokens" | "x") {
                before = tap.values.to_vec();
            }
        },
    ))
    .unwrap();
    assert_eq!(seen, 1 + 4 * loaded.vim.layers);
    check("final_norm", &block_on(forward.dense(count)).unwrap());
    // Stepwise or as a whole: the same bits.
    let stepwise = block_on(forward.logits(count)).unwrap();
    assert_eq!(bits(&stepwise), bits(&run(&forward, &pixels)[0]));
}

#[test]
fn a_picture_has_the_same_bits_in_every_batch() {
    if common::no_gpu("a_picture_has_the_same_bits_in_every_batch") {
        return;
    }
    let gpu = common::gpu();
    let loaded = Loaded::open(&gpu, &fixture("vim-tiny-s8"), Recipe::AsStored);
    let golden = Expected::read(&fixture("vim-tiny-s8").join("expected.safetensors"));
    let pictures = [golden.f32("image.0"), golden.f32("image.1"), vec![0.25; 3 * 48 * 48]];
    let (alone, three) = (loaded.forward(loaded.vim.image, 1), loaded.forward(loaded.vim.image, 3));
    let single: Vec<_> = pictures.iter().map(|pixels| run(&alone, pixels)).collect();
    for order in [vec![0, 1, 2], vec![2, 0], vec![1]] {
        let pixels: Vec<f32> = order.iter().flat_map(|picture: &usize| pictures[*picture].clone()).collect();
        let [logits, features] = run(&three, &pixels);
        for (row, picture) in order.iter().enumerate() {
            let (classes, width) = (loaded.vim.classes, loaded.vim.hidden);
            assert_eq!(bits(&logits[row * classes..][..classes]), bits(&single[*picture][0]), "{order:?}");
            assert_eq!(bits(&features[row * width..][..width]), bits(&single[*picture][1]), "{order:?}");
        }
    }
    assert_ne!(bits(&single[0][0]), bits(&single[1][0]), "the pictures differ");
}

#[test]
fn other_resolutions_run_and_the_class_token_stays_in_the_middle() {
    if common::no_gpu("other_resolutions_run_and_the_class_token_stays_in_the_middle") {
        return;
    }
    let gpu = common::gpu();
    let loaded = Loaded::open(&gpu, &fixture("vim-tiny"), Recipe::AsStored);
    for image in [[16, 16], [16, 48], [80, 64], [100, 33]] {
        let forward = loaded.forward(image, 2);
        let patches = loaded.vim.patches(image);
        assert_eq!(forward.tokens(), patches.tokens());
        let pixels: Vec<f32> = (0..2 * patches.values()).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let [logits, features] = run(&forward, &pixels);
        assert!(logits.iter().chain(&features).all(|v| v.is_finite()), "{image:?}");
        let dense = block_on(forward.dense(2)).unwrap();
        let width = loaded.vim.hidden;
        for picture in 0..2 {
            let row = (picture * patches.tokens() + patches.class_at) * width;
            assert_eq!(bits(&dense[row..][..width]), bits(&features[picture * width..][..width]), "{image:?}");
        }
    }
}

/// Largest difference of logits to those of the stored weights, with weights of each format.
#[test]
fn errors_of_weight_formats_are_as_stated() {
    if common::no_gpu("errors_of_weight_formats_are_as_stated") {
        return;
    }
    let gpu = common::gpu();
    let golden = Expected::read(&fixture("vim-tiny").join("expected.safetensors"));
    let pixels = golden.f32("image.0");
    let largest = golden.get("logits.0").iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (format, limit) in [
        (WeightFormat::F32, 1e-4),
        (WeightFormat::F16, 2e-2),
        (WeightFormat::Bf16, 1e-1),
        (WeightFormat::Q8_0, 1e-1),
        (WeightFormat::Q4_0, 1.0),
    ] {
        let loaded = Loaded::open(&gpu, &fixture("vim-tiny"), Recipe::To(format));
        let [logits, _] = run(&loaded.forward(loaded.vim.image, 1), &pixels);
        let worst =
            logits.iter().zip(golden.get("logits.0")).fold(0.0f64, |m, (a, b)| m.max((f64::from(*a) - b).abs()));
        eprintln!("{format} ({}): {worst:.1e} of {largest:.1}", loaded.weights.formats());
        assert!(worst <= limit * largest, "{format}: {worst}");
    }
}

/// Each kernel of the layers, in every form that the adapter runs, on a picture read backwards: swapping the directions' weights
/// and reversing the rows of a picture swaps the results, bit for bit.
#[test]
fn reversal_is_right_at_every_length() {
    use peregrine::gpu::{Plan, Usage};
    use peregrine::kernels::case::Random;
    use peregrine::kernels::conv::{self, PictureConv};
    use peregrine::kernels::dbc_norm::DbcLayout;
    use peregrine::kernels::pictures::Pictures;
    use peregrine::kernels::scan::{self, PictureOperands, PictureScan, ScanVariant, Segments, segments_for};
    use peregrine::kernels::{Activation, DIRECTIONS};

    if common::no_gpu("reversal_is_right_at_every_length") {
        return;
    }
    let gpu = common::gpu();
    let (inner, state, kernel) = (40, 8, 4);
    let layout = DbcLayout { dt_rank: 3, state };
    let run = |variant: ScanVariant, segments: usize, tokens: usize, reversed: bool| -> [Vec<u32>; DIRECTIONS] {
        let mut random = Random::new(tokens as u64);
        let mut taps = [(); DIRECTIONS]
            .map(|()| conv::pack(&random.uniforms(inner * kernel, -1.0, 1.0), &random.uniforms(inner, -1.0, 1.0)));
        let mut a_skip = [(); DIRECTIONS]
            .map(|()| scan::pack(&random.uniforms(inner * state, -3.0, 2.0), &random.uniforms(inner, -1.0, 1.0)));
        let mut own = |width: usize, low: f32| -> [Vec<f32>; DIRECTIONS] {
            [(); DIRECTIONS].map(|()| random.uniforms(tokens * width, low, 1.0))
        };
        let (mut dt, mut dbc) = (own(inner, 0.01), own(layout.width(), -1.0));
        let mut xz = random.uniforms(tokens * 2 * inner, -2.0, 2.0);
        let backwards = |values: &[f32], width: usize| -> Vec<f32> {
            values.chunks_exact(width).rev().flatten().copied().collect()
        };
        if reversed {
            taps.reverse();
            a_skip.reverse();
            dt.reverse();
            dbc.reverse();
            dt = dt.map(|values| backwards(&values, inner));
            dbc = dbc.map(|values| backwards(&values, layout.width()));
            xz = backwards(&xz, 2 * inner);
        }
        let pictures = Pictures { tokens, most: 1 };
        let fill = |to: &Activation, rows: &[f32]| {
            for (row, values) in rows.chunks_exact(to.width).enumerate() {
                to.write_row(&gpu, row, values).unwrap();
            }
        };
        let both = |label: &str, values: &[Vec<f32>; DIRECTIONS], width: usize| {
            let both = pictures.both(&gpu, label, width).unwrap();
            for (direction, values) in values.iter().enumerate() {
                fill(&pictures.one(&both, direction), values);
            }
            both
        };
        let (dt_y, dbc) = (both("dt", &dt, inner), both("dbc", &dbc, layout.width()));
        let xz_rows = Activation::new(&gpu, "xz", tokens, 2 * inner).unwrap();
        fill(&xz_rows, &xz);
        let x = pictures.both(&gpu, "x", inner).unwrap();
        let batch = gpu.upload("batch", &[pictures.batch(1)], Usage::Uniform).unwrap();
        let taps = gpu.upload("taps", &taps.concat(), Usage::Storage).unwrap();
        let a_skip = gpu.upload("a_skip", &a_skip.concat(), Usage::Storage).unwrap();
        let mut plan = Plan::new(&gpu, "reversal");
        PictureConv { taps: &taps, inner, kernel }.record(&mut plan, "conv", (&xz_rows, &x), &batch).unwrap();
        let segments = Segments::of_pictures(&gpu, pictures, segments, inner, state).unwrap();
        let operands = PictureOperands { dt_y: &dt_y, x: &x, xz: &xz_rows, dbc: &dbc };
        let scan = PictureScan { a_skip: &a_skip, inner, layout, variant, pictures };
        scan.record(&mut plan, "scan", operands, &segments, &batch).unwrap();
        plan.run(tokens).unwrap();
        [0, 1].map(|direction| {
            let y = pictures.one(&dt_y, direction);
            let y = block_on(y.read(&gpu, tokens, 0..inner)).unwrap();
            if reversed { bits(&backwards(&y, inner)) } else { bits(&y) }
        })
    };
    let own = ScanVariant::of(gpu.caps(), DIRECTIONS * inner, state);
    let mut forms: Vec<(ScanVariant, usize, usize)> = Vec::new();
    for tokens in [1, 2, 3, 17, 197, 730] {
        forms.extend(ScanVariant::all(gpu.caps()).into_iter().map(|variant| (variant, 1, tokens)));
        forms.push((own, 5, tokens));
    }
    forms.push((own, segments_for(gpu.caps(), DIRECTIONS * inner, state, 6085), 6085));
    for (variant, segments, tokens) in forms {
        let [forward, backward] = run(variant, segments, tokens, false);
        let [swapped_forward, swapped_backward] = run(variant, segments, tokens, true);
        assert!(forward == swapped_backward, "{variant}, {tokens} rows in {segments}: forward");
        assert!(backward == swapped_forward, "{variant}, {tokens} rows in {segments}: backward");
        // Negative control: the directions differ.
        assert!(forward != backward, "{variant}, {tokens} rows");
    }
}
