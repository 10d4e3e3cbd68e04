//! Decoding and preprocessing against Pillow, and hostile files. The golden files are made by tests/fixtures/pictures/make.py.

mod common;

use common::{Expected, fixture};
use peregrine::vision::{Picture, Pixels, Preprocess, Resample, Resize};
use std::collections::BTreeMap;

fn golden() -> Expected {
    Expected::read(&fixture("pictures").join("expected.safetensors"))
}

/// A golden picture.
fn picture(golden: &Expected, name: &str) -> Picture {
    let [height, width, 3] = golden.shape(name)[..] else { panic!("{name} is no picture") };
    Picture::from_rgb(width, height, golden.get(name).iter().map(|v| *v as u8).collect()).unwrap()
}

/// Largest difference of two pictures of one size.
fn difference(name: &str, got: &Picture, golden: &Expected) -> u8 {
    assert_eq!([got.height(), got.width(), 3], golden.shape(name), "{name}");
    got.rgb().iter().zip(golden.get(name)).map(|(got, wanted)| got.abs_diff(*wanted as u8)).max().unwrap()
}

/// Values 0 to 255 as they are.
fn plain(resize: Resize, resample: Resample, crop: Option<[usize; 2]>) -> Preprocess {
    let json = r#"{"do_resize": false, "do_rescale": false, "do_normalize": false}"#;
    let mut preprocess = Preprocess::from_json(json, "json").unwrap();
    (preprocess.resize, preprocess.resample, preprocess.crop) = (resize, resample, crop);
    preprocess
}

/// Pixels that were not normalized, as a picture.
fn as_picture(Pixels { height, width, values }: Pixels) -> Picture {
    let plane = height * width;
    let rgb = (0..plane).flat_map(|i| [0, 1, 2].map(|channel| values[channel * plane + i] as u8)).collect();
    Picture::from_rgb(width, height, rgb).unwrap()
}

#[test]
fn every_format_is_read_as_pillow_reads_it() {
    let golden = golden();
    let exif = (1..=8).map(|orientation| format!("exif_{orientation}.jpg"));
    let others = ["grey.jpg", "cmyk.jpg", "rgb.png", "rgb.bmp", "grey.png", "alpha.png", "palette.png", "grey16.png"];
    let more = ["lossless.webp", "animated.gif"];
    for name in exif.chain(others.into_iter().chain(more).map(str::to_owned)) {
        let worst = difference(&name, &Picture::open(fixture("pictures").join(&name)).unwrap(), &golden);
        eprintln!("{name}: {worst}");
        // Decoders of JPEG round differently.
        let limit = if name.ends_with("jpg") { 2 } else { 0 };
        assert!(worst <= limit, "{name}: {worst}");
    }
    // Negative control: the turned pictures differ.
    let [first, third] = [1, 3].map(|n| Picture::open(fixture("pictures").join(format!("exif_{n}.jpg"))).unwrap());
    assert_ne!(first, third);
}

#[test]
fn resizing_is_within_one_of_pillow() {
    let golden = golden();
    let kinds = BTreeMap::from([
        ("bicubic", Resample::Bicubic),
        ("bilinear", Resample::Bilinear),
        ("lanczos", Resample::Lanczos),
        ("box", Resample::Box),
    ]);
    let mut failures = Vec::new();
    for (kind, resample) in kinds {
        for i in 0..6 {
            let name = format!("{kind}.{i}");
            let [height, width, _] = golden.shape(&name)[..] else { unreachable!() };
            let preprocess = plain(Resize::Exact([height, width]), resample, None);
            let got = as_picture(preprocess.apply(&picture(&golden, &format!("source.{i}"))).unwrap());
            let worst = difference(&name, &got, &golden);
            eprintln!("{name}: {worst}");
            if worst > 1 {
                failures.push(format!("{name}: {worst}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
    // Negative control: another filter is further away.
    let [height, width, _] = golden.shape("bicubic.0")[..] else { unreachable!() };
    let other = plain(Resize::Exact([height, width]), Resample::Bilinear, None);
    let got = as_picture(other.apply(&picture(&golden, "source.0")).unwrap());
    assert!(difference("bicubic.0", &got, &golden) > 10);
}

#[test]
fn shorter_sides_and_crops_are_those_of_torchvision() {
    let golden = golden();
    for (i, (side, crop)) in [(36, 32), (37, 32), (20, 25), (18, 16)].into_iter().enumerate() {
        let mut preprocess = Preprocess::imagenet(crop);
        assert_eq!(preprocess.crop, Some([crop; 2]));
        (preprocess.resize, preprocess.scale) = (Resize::Shorter(side), 1.0);
        (preprocess.mean, preprocess.deviation) = ([0.0; 3], [1.0; 3]);
        let got = as_picture(preprocess.apply(&picture(&golden, &format!("crop_source.{i}"))).unwrap());
        let worst = difference(&format!("crop.{i}"), &got, &golden);
        assert!(worst <= 1, "{i}: {worst}");
    }
    assert_eq!(Preprocess::imagenet(224).resize, Resize::Shorter(256));
}

#[test]
fn values_are_normalized_as_the_reference_normalizes_them() {
    for name in ["vim-tiny", "vim-tiny-s8"] {
        let golden = Expected::read(&fixture(name).join("expected.safetensors"));
        for i in 0..2 {
            let picture = picture(&golden, &format!("rgb.{i}"));
            // The golden pictures have the model's size.
            let mut preprocess = Preprocess::imagenet(picture.height());
            (preprocess.resize, preprocess.crop) = (Resize::Keep, None);
            let Pixels { height, width, values } = preprocess.apply(&picture).unwrap();
            let wanted = golden.get(&format!("image.{i}"));
            assert_eq!(golden.shape(&format!("image.{i}")), [3, height, width]);
            let worst = values.iter().zip(wanted).fold(0.0f64, |m, (a, b)| m.max((f64::from(*a) - b).abs()));
            assert!(worst < 1e-6, "{name} {i}: {worst}");
        }
    }
}

#[test]
fn configs_of_transformers_are_read() {
    let read = |json: &str| Preprocess::from_json(json, "preprocessor_config.json").unwrap();
    let of_vit = read(r#"{"size": 384, "resample": 3, "image_mean": [0.5], "image_std": 0.25}"#);
    assert_eq!((of_vit.resize, of_vit.resample), (Resize::Exact([384; 2]), Resample::Bicubic));
    assert_eq!((of_vit.mean, of_vit.deviation, of_vit.crop), ([0.5; 3], [0.25; 3], None));
    let of_deit =
        read(r#"{"size": {"shortest_edge": 256}, "do_center_crop": true, "crop_size": {"height": 224, "width": 200}}"#);
    assert_eq!((of_deit.resize, of_deit.crop), (Resize::Shorter(256), Some([224, 200])));
    let of_convnext = read(r#"{"size": {"shortest_edge": 224}, "crop_pct": 0.875}"#);
    assert_eq!((of_convnext.resize, of_convnext.crop), (Resize::Shorter(256), Some([224; 2])));
    let nothing = read(r#"{"do_resize": false, "do_rescale": false, "do_normalize": false, "unknown": [1]}"#);
    assert_eq!((nothing.scale, nothing.mean, nothing.deviation), (1.0, [0.0; 3], [1.0; 3]));
    for bad in [
        "[]",
        r#"{"size": -1}"#,
        r#"{"size": {"height": 3}}"#,
        r#"{"size": 1000000}"#,
        r#"{"resample": 9}"#,
        r#"{"image_std": [0, 1, 1]}"#,
        r#"{"image_mean": [1, 2]}"#,
        r#"{"do_resize": 1}"#,
        r#"{"crop_pct": 0, "size": {"shortest_edge": 2}}"#,
        r#"{"rescale_factor": "x"}"#,
    ] {
        let error = Preprocess::from_json(bad, "preprocessor_config.json").expect_err(bad).to_string();
        assert!(error.starts_with("preprocessor_config.json: "), "{error}");
    }
}

/// A picture, whatever was done to its file, or an error of one line that names it.
fn picture_or_error(name: &str, bytes: &[u8]) -> bool {
    match Picture::decode(name, bytes) {
        Ok(picture) => {
            assert_eq!(picture.rgb().len(), picture.width() * picture.height() * 3);
            true
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.starts_with(&format!("{name}: ")) && !said.contains('\n'), "{said}");
            false
        }
    }
}

#[test]
fn damaged_pictures_are_errors_of_one_line() {
    let mut refused = 0;
    for name in ["exif_6.jpg", "cmyk.jpg", "palette.png", "grey16.png", "lossless.webp", "animated.gif", "rgb.bmp"] {
        let whole = std::fs::read(fixture("pictures").join(name)).unwrap();
        for end in 0..whole.len() {
            refused += usize::from(!picture_or_error(name, &whole[..end]));
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            refused += usize::from(!picture_or_error(name, &flipped));
        }
    }
    assert!(refused > 1000, "{refused}");
    for bytes in [&b""[..], b"hello", b"<html>", &[0xff; 100], b"GIF89a", b"\x89PNG\r\n\x1a\n"] {
        assert!(!picture_or_error("bad", bytes));
    }
    // A header that promises a terabyte.
    let mut huge = std::fs::read(fixture("pictures").join("rgb.bmp")).unwrap();
    huge[18..26].copy_from_slice(&[0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0xff, 0x3f]);
    assert!(!picture_or_error("huge", &huge));
}
