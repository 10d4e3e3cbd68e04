//! Vision Mamba against golden values: logits, features and values inside the model; batches, resolutions, directions.

mod common;

use common::{Expected, close, fixture};
use peregrine::Error;
use peregrine::format::{TensorSource, WeightFormat};
use peregrine::gpu::Gpu;
use peregrine::kernels::linear::Math;
use peregrine::kernels::variants::Variants;
use peregrine::model::{Recipe, Vim, VimForward, VimTensors, VimWeights};
use peregrine::vision::{FeatureOptions, Picture, VisionCheckpoint, VisionModel, VisionOptions};
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
    use peregrine::kernels::scan::{self, Operands, Over, Scan, ScanVariant, Segments, segments_for};
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
        let operands = Operands { dt: &dt_y, x: &x, xz: &xz_rows, dbc: &dbc, y: &dt_y };
        let scan = Scan { a_skip: &a_skip, inner, layout, variant, over: Over::Pictures(pictures) };
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

/// A digit of 8 x 8, ink from 0 to 16, enlarged to 32 x 32 as the model's training enlarged it.
fn enlarged(ink: &[f64]) -> Picture {
    let along: Vec<(usize, usize, f64)> = (0..32)
        .map(|i| {
            let at = ((f64::from(i) + 0.5) / 4.0 - 0.5).max(0.0);
            let first = at.floor() as usize;
            (first, (first + 1).min(7), at - at.floor())
        })
        .collect();
    let mut rgb = Vec::new();
    for (y0, y1, y) in &along {
        for (x0, x1, x) in &along {
            let line = |row: usize| ink[row * 8 + x0] * (1.0 - x) + ink[row * 8 + x1] * x;
            let value = (line(*y0) * (1.0 - y) + line(*y1) * y) / 16.0 * 255.0;
            rgb.extend([value.round_ties_even() as u8; 3]);
        }
    }
    Picture::from_rgb(32, 32, rgb).unwrap()
}

#[test]
fn digits_are_classified_as_the_models_card_says() {
    if common::no_gpu("digits_are_classified_as_the_models_card_says") {
        return;
    }
    let gpu = common::gpu();
    let checkpoint = VisionCheckpoint::open(common::shipped("vim-digits")).unwrap();
    let mut model = VisionModel::load(&gpu, checkpoint, VisionOptions::default(), &mut |_| {}).unwrap();

    // The samples, with the logits that training's framework gave.
    let folder = common::shipped("vim-digits");
    let reference: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
    let samples = reference.as_array().unwrap();
    let pictures: Vec<Picture> =
        samples.iter().map(|sample| Picture::open(folder.join(sample["file"].as_str().unwrap())).unwrap()).collect();
    let mut done = Vec::new();
    let logits = model.logits(&pictures, &mut |count| done.push(count)).unwrap();
    assert_eq!(done.last(), Some(&samples.len()));
    let mut worst = 0.0f64;
    for (sample, logits) in samples.iter().zip(&logits) {
        for (wanted, got) in sample["logits"].as_array().unwrap().iter().zip(logits) {
            worst = worst.max((wanted.as_f64().unwrap() - f64::from(*got)).abs());
        }
    }
    eprintln!("logits of {} samples: {worst:.1e}", samples.len());
    assert!(worst < 1e-4, "{worst}");
    let best = model.classify(&pictures, 3, &mut |_| {}).unwrap();
    for (sample, classes) in samples.iter().zip(&best) {
        assert_eq!(classes.len(), 3);
        assert_eq!(classes[0].index as u64, sample["argmax"].as_u64().unwrap());
        assert_eq!(classes[0].name, classes[0].index.to_string());
        assert!(classes[0].probability >= classes[1].probability && classes[0].probability <= 1.0);
    }

    // The whole test set, in batches that do not divide it.
    let digits = Expected::read(&fixture("digits").join("test.safetensors"));
    let pictures: Vec<Picture> = digits.get("pixels").chunks_exact(64).map(enlarged).collect();
    let found = model.classify(&pictures, 1, &mut |_| {}).unwrap();
    let right = found.iter().zip(digits.get("labels")).filter(|(classes, label)| classes[0].index as f64 == **label);
    let right = right.count();
    let card: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("measured.json")).unwrap()).unwrap();
    assert_eq!(card["test_images"], pictures.len());
    let accuracy = (right as f64 / pictures.len() as f64 * 1e4).round() / 1e4;
    assert_eq!(card["test_accuracy"], accuracy, "{right} of {}", pictures.len());
}

#[test]
fn features_of_layers_and_resolutions_have_their_shapes() {
    if common::no_gpu("features_of_layers_and_resolutions_have_their_shapes") {
        return;
    }
    let gpu = common::gpu();
    let checkpoint = VisionCheckpoint::embedded().unwrap();
    let mut model = VisionModel::load(&gpu, checkpoint, VisionOptions::default().batch(2), &mut |_| {}).unwrap();
    let digits = Expected::read(&fixture("digits").join("test.safetensors"));
    let pictures: Vec<Picture> = digits.get("pixels").chunks_exact(64).take(3).map(enlarged).collect();
    let wanted = FeatureOptions::default().map(true).layers([3, 0]).image([40, 64]);
    let features = model.features(&pictures, &wanted, &mut |_| {}).unwrap();
    assert_eq!(features.len(), 3);
    for features in &features {
        assert_eq!(features.class_token.len(), 64);
        for map in features.map.iter().chain(&features.layers) {
            assert_eq!([map.channels, map.height, map.width, map.values.len()], [64, 10, 16, 64 * 160]);
        }
        assert_eq!((features.map.is_some(), features.layers.len()), (true, 2));
        assert_ne!(features.layers[0], features.layers[1]);
    }
    // Alone and in batches: the same bits. Without layers: the same class token.
    let alone = model.features(&pictures[2..], &wanted, &mut |_| {}).unwrap();
    assert_eq!(alone[0], features[2]);
    let plain = FeatureOptions::default().image([40, 64]);
    let plain = model.features(&pictures[..1], &plain, &mut |_| {}).unwrap();
    assert_eq!((bits(&plain[0].class_token), plain[0].map.is_none()), (bits(&features[0].class_token), true));

    let bad = FeatureOptions::default().layers([4]);
    assert!(model.features(&pictures, &bad, &mut |_| {}).unwrap_err().to_string().contains("layers"));
    model.cancel_handle().cancel_all();
    assert!(matches!(model.classify(&pictures, 1, &mut |_| {}), Err(Error::Cancelled)));
}

#[test]
fn memory_is_planned_and_what_does_not_fit_is_refused_with_what_does() {
    if common::no_gpu("memory_is_planned_and_what_does_not_fit_is_refused_with_what_does") {
        return;
    }
    let gpu = common::gpu();
    let vim = Vim { layers: 2, ..Vim::named("vim-tiny").unwrap() };
    let before = gpu.allocated_bytes();
    let weights = Arc::new(VimWeights::made_up(&gpu, &vim, WeightFormat::F16).unwrap());
    let variants = block_on(Variants::tried(&gpu, Math::Exact, &vim.kernel_sizes())).unwrap();
    let of_weights = gpu.allocated_bytes() - before;
    let planned = vim.made_up_bytes(WeightFormat::F16);
    assert!(of_weights.abs_diff(planned) < planned / 100, "{of_weights} bytes, planned {planned}");
    // Memory grows with the number of patches, and as planned.
    let mut a_token = Vec::new();
    for (image, batch) in [([224, 224], 1), ([224, 224], 3), ([512, 384], 1), ([1248, 1248], 1)] {
        let before = gpu.allocated_bytes();
        let forward = VimForward::new(&gpu, &vim, weights.clone(), (image, batch), &variants).unwrap();
        let used = gpu.allocated_bytes() - before;
        let planned = vim.activation_bytes(gpu.caps(), image, batch);
        eprintln!("{image:?} x {batch}: {used} bytes, planned {planned}");
        assert!(used.abs_diff(planned) < planned / 50 + 200_000, "{image:?}: {used} bytes, planned {planned}");
        a_token.push(used as f64 / (forward.tokens() * batch) as f64);
    }
    let (least, most) =
        (a_token.iter().fold(f64::MAX, |m, v| m.min(*v)), a_token.iter().fold(0.0f64, |m, v| m.max(*v)));
    assert!(most < 1.2 * least, "{a_token:?} bytes a token");

    let refused = |wanted, room| vim.memory(&gpu, planned, wanted, room).unwrap_err().to_string();
    assert!(vim.memory(&gpu, planned, ([224; 2], 4), None).is_ok());
    let too_many = refused(([224; 2], 64), Some(planned + 60_000_000));
    assert!(too_many.contains("try --batch"), "{too_many}");
    let too_large = refused(([1248; 2], 1), Some(planned + 60_000_000));
    assert!(too_large.contains("one picture of") && too_large.contains("fits"), "{too_large}");
    assert!(refused(([8, 8], 1), None).contains("at least as large as a patch"));
    // What it says fits does.
    let side: usize = too_large.split("one picture of ").nth(1).unwrap().split('x').next().unwrap().parse().unwrap();
    assert!(vim.memory(&gpu, planned, ([side; 2], 1), Some(planned + 60_000_000)).is_ok());
}
