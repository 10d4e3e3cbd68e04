//! Blocks of quantized values: bit-exact decoding, and the error of encoding.

mod common;

use common::{Expected, fixture};
use half::f16;
use peregrine::Error;
use peregrine::format::{RareBlock, TensorSource, WeightFormat};
use peregrine::kernels::case::Random;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The formats whose blocks have scales.
fn quantized() -> impl Iterator<Item = WeightFormat> {
    WeightFormat::ALL.into_iter().filter(|format| !format.is_plain())
}

const RARE: [(RareBlock, &str); 7] = [
    (RareBlock::Q4_1, "Q4_1"),
    (RareBlock::Q5_0, "Q5_0"),
    (RareBlock::Q5_1, "Q5_1"),
    (RareBlock::Q2K, "Q2_K"),
    (RareBlock::Q3K, "Q3_K"),
    (RareBlock::Iq4Nl, "IQ4_NL"),
    (RareBlock::Iq4Xs, "IQ4_XS"),
];

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn decoded(format: WeightFormat, row: &[u8], columns: usize) -> Vec<f32> {
    let mut values = vec![f32::NAN; columns];
    format.decode_row(row, &mut values);
    values
}

/// The fixture's rows of blocks of a type, with the values that the gguf package gives them.
fn rows_of(name: &str) -> Vec<(Vec<u8>, Vec<f32>)> {
    let bytes = std::fs::read(fixture("gguf/blocks.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let raw = file.tensor(&format!("{name}.raw")).unwrap();
    let values = file.tensor(&format!("{name}.f32")).unwrap();
    let values: Vec<f32> = values.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let rows = raw.data().chunks_exact(raw.shape()[1]).map(<[u8]>::to_vec);
    rows.zip(values.chunks_exact(512).map(<[f32]>::to_vec)).collect()
}

#[test]
fn gguf_blocks_decode_as_in_the_gguf_package() {
    use WeightFormat::{Bf16, F16, Q4_0, Q4K, Q5K, Q6K, Q8_0};
    let held =
        [(F16, "F16"), (Bf16, "BF16"), (Q8_0, "Q8_0"), (Q4_0, "Q4_0"), (Q4K, "Q4_K"), (Q5K, "Q5_K"), (Q6K, "Q6_K")];
    for (format, name) in held {
        for (row, expected) in rows_of(name) {
            assert_eq!(row.len(), format.row_bytes(512), "{name}");
            assert_eq!(bits(&decoded(format, &row, 512)), bits(&expected), "{name}");
        }
    }
    for (block, name) in RARE {
        for (row, expected) in rows_of(name) {
            assert_eq!(row.len(), block.row_bytes(512), "{name}");
            let mut values = vec![f32::NAN; 512];
            block.decode_row(&row, &mut values);
            assert_eq!(bits(&values), bits(&expected), "{name}");
        }
    }
}

#[test]
fn rare_blocks_are_converted_without_loss() {
    let mut lossless = 0;
    for (block, name) in RARE {
        let format = block.held_as();
        if !block.converts_to(format) {
            assert_eq!(format, WeightFormat::F16, "{name}");
            continue;
        }
        lossless += 1;
        for (row, expected) in rows_of(name) {
            let mut blocks = vec![0xff; format.row_bytes(512)];
            block.transcode_row(&row, &mut blocks);
            assert_eq!(bits(&decoded(format, &blocks, 512)), bits(&expected), "{name}");
        }
    }
    assert_eq!(lossless, 3);
}

#[test]
fn zeros_stay_zeros() {
    for format in quantized() {
        for columns in [format.block_values(), 3 * format.block_values(), 7, 300] {
            let row = format.encode(&vec![0.0; columns], columns);
            assert!(decoded(format, &row, columns).iter().all(|v| *v == 0.0), "{format}, {columns} columns");
        }
    }
}

/// Tensors of a file, to be spoilt.
type Parts = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn parts(dir: &str) -> Parts {
    let bytes = std::fs::read(fixture(dir).join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect()
}

fn source(parts: &Parts) -> TensorSource {
    let views = parts.iter().map(|(name, (dtype, shape, data))| {
        (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    TensorSource::from_bytes("model.safetensors", safetensors::serialize(views, None).unwrap()).unwrap()
}

const IN_PROJ: &str = "backbone.layers.0.mixer.in_proj.weight";

#[test]
fn bitsandbytes_weights_decode_as_in_bitsandbytes() {
    use WeightFormat::{Fp4, Int8, Nf4};
    for (dir, format, count) in [
        ("falcon-tiny-nf4", Nf4, 4),
        ("falcon-tiny-fp4", Fp4, 4),
        ("falcon-tiny-int8", Int8, 4),
        ("falcon-wide-nf4", Nf4, 1),
    ] {
        let source = TensorSource::open(&fixture(dir)).unwrap();
        let expected = Expected::read(&fixture(dir).join("expected.safetensors"));
        let mut found = 0;
        for key in expected.names().filter(|key| key.starts_with("dequant")) {
            let (_, name) = key.split_once('.').unwrap();
            let shape = source.shape(name).unwrap();
            let tensor = source.get(name, &shape).unwrap();
            let values = expected.f32(key);
            assert_eq!((shape[1], tensor.held_as()), (expected.shape(key)[1], format), "{dir} {name}");
            assert_eq!(bits(&tensor.to_f32()[..values.len()]), bits(&values), "{dir} {name}");
            // In the device's layout.
            let rows = expected.shape(key)[0];
            let mut blocks = vec![0xff; rows * format.row_bytes(shape[1])];
            tensor.encode_rows(0..rows, format, &mut blocks);
            let held: Vec<f32> = blocks
                .chunks_exact(format.row_bytes(shape[1]))
                .flat_map(|row| decoded(format, row, shape[1]))
                .collect();
            assert_eq!(bits(&held), bits(&values), "{dir} {name}");
            found += 1;
        }
        assert_eq!(found, count, "{dir}");
    }
}

/// A bitsandbytes matrix without nested quantization, with codes that depend on their position.
fn plain(rows: usize, columns: usize, map: &[f32; 16]) -> Parts {
    let f32s = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let count = rows * columns;
    let codes: Vec<u8> = (0..count.div_ceil(2)).map(|i| (i * 37 % 251) as u8).collect();
    let absmax: Vec<f32> = (0..count.div_ceil(64)).map(|i| 1.0 + i as f32 / 16.0).collect();
    let state =
        format!(r#"{{"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [{rows}, {columns}]}}"#);
    BTreeMap::from([
        ("w".to_owned(), (Dtype::U8, vec![codes.len(), 1], codes)),
        ("w.absmax".to_owned(), (Dtype::F32, vec![absmax.len()], f32s(&absmax))),
        ("w.quant_map".to_owned(), (Dtype::F32, vec![16], f32s(map))),
        ("w.quant_state.bitsandbytes__nf4".to_owned(), (Dtype::U8, vec![state.len()], state.into_bytes())),
    ])
}

/// The values of NF4 or FP4 codes.
fn map_of(format: WeightFormat) -> [f32; 16] {
    let mut block = [0; 36];
    block[..4].copy_from_slice(&1.0f32.to_le_bytes());
    block[4..12].copy_from_slice(&[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
    decoded(format, &block, 16).try_into().unwrap()
}

#[test]
fn any_shape_and_any_map_of_bitsandbytes_is_held_without_loss() {
    let map = map_of(WeightFormat::Nf4);
    let mut other = map;
    other[3] = f32::from_bits(other[3].to_bits() + 1);
    use WeightFormat::{F32, Nf4};
    for (rows, columns, map, format) in [
        (4, 128, &map, Nf4),
        (9, 64, &map, Nf4),
        (9, 8, &map, Nf4),
        (65, 1, &map, Nf4),
        (5, 96, &map, F32),
        (7, 48, &map, F32),
        (3, 7, &map, F32),
        (4, 128, &other, F32),
    ] {
        let parts = plain(rows, columns, map);
        let source = source(&parts);
        let tensor = source.get("w", &[rows, columns]).unwrap();
        assert_eq!(tensor.held_as(), format, "{rows} x {columns}");
        let codes = &parts["w"].2;
        let expected: Vec<f32> = (0..rows * columns)
            .map(|i| {
                let code = if i % 2 == 0 { codes[i / 2] >> 4 } else { codes[i / 2] & 15 };
                map[usize::from(code)] * (1.0 + (i / 64) as f32 / 16.0)
            })
            .collect();
        assert_eq!(bits(&tensor.to_f32()), bits(&expected), "{rows} x {columns}");
        let mut blocks = vec![0xff; rows * format.row_bytes(columns)];
        tensor.encode_rows(0..rows, format, &mut blocks);
        for (row, expected) in blocks.chunks_exact(format.row_bytes(columns)).zip(expected.chunks_exact(columns)) {
            assert_eq!(bits(&decoded(format, row, columns)), bits(expected), "{rows} x {columns}");
            // Padding of the last block is zero.
            let whole = format.row_blocks(columns) * format.block_values();
            assert!(decoded(format, row, whole)[columns..].iter().all(|v| *v == 0.0), "{rows} x {columns}");
        }
    }
}

#[test]
fn codes_may_be_stored_under_another_type() {
    let mut parts = parts("falcon-tiny-nf4");
    let expected = source(&parts).get(IN_PROJ, &[256, 64]).unwrap().to_f32();
    let codes = parts.get_mut(IN_PROJ).unwrap();
    (codes.0, codes.1) = (Dtype::BF16, vec![4096, 1]);
    assert_eq!(bits(&source(&parts).get(IN_PROJ, &[256, 64]).unwrap().to_f32()), bits(&expected));
}

/// The error of a checkpoint with one tensor changed or removed.
fn refused(dir: &str, name: &str, change: impl FnOnce(&mut Parts, &str)) -> Error {
    let mut parts = parts(dir);
    assert!(parts.contains_key(name), "{name}");
    change(&mut parts, name);
    let source = source(&parts);
    let of = source.shape(IN_PROJ);
    assert!(of.is_some(), "{name}");
    let error = source.get(IN_PROJ, &[256, 64]).expect_err(name);
    let said = error.to_string();
    assert!(said.contains(IN_PROJ) && said.contains("model.safetensors"), "{said}");
    error
}

fn shorter(parts: &mut Parts, name: &str) {
    let (dtype, shape, bytes) = parts.get_mut(name).unwrap();
    let by = if *dtype == Dtype::F32 { 4 } else { 1 };
    *shape = vec![(bytes.len() - by) / by];
    bytes.truncate(bytes.len() - by);
}

fn longer(parts: &mut Parts, name: &str) {
    let (dtype, shape, bytes) = parts.get_mut(name).unwrap();
    let by = if *dtype == Dtype::F32 { 4 } else { 1 };
    bytes.extend(vec![0; by]);
    *shape = vec![bytes.len() / by];
}

fn of_another_type(parts: &mut Parts, name: &str) {
    let (dtype, shape, bytes) = parts.get_mut(name).unwrap();
    *dtype = if *dtype == Dtype::F32 { Dtype::I32 } else { Dtype::I8 };
    *shape = vec![bytes.len() / if *dtype == Dtype::I32 { 4 } else { 1 }];
}

#[test]
fn wrong_bitsandbytes_tensors_are_rejected() {
    let part = |part: &str| format!("{IN_PROJ}.{part}");
    let state = part("quant_state.bitsandbytes__nf4");
    let mut cases = vec![
        ("falcon-tiny-nf4", IN_PROJ.to_owned(), "codes"),
        ("falcon-tiny-nf4", part("absmax"), "absmax"),
        ("falcon-tiny-nf4", part("quant_map"), "quant_map"),
        ("falcon-tiny-nf4", part("nested_absmax"), "nested_absmax"),
        ("falcon-tiny-nf4", part("nested_quant_map"), "nested_quant_map"),
        ("falcon-tiny-nf4", state.clone(), "quant_state"),
        ("falcon-tiny-fp4", IN_PROJ.to_owned(), "codes"),
        ("falcon-tiny-fp4", part("absmax"), "absmax"),
        ("falcon-tiny-fp4", part("quant_map"), "quant_map"),
        ("falcon-tiny-int8", IN_PROJ.replace(".weight", ".SCB"), "SCB"),
    ];
    for (dir, name, said) in &cases {
        let error = refused(dir, name, shorter);
        assert!(matches!(&error, Error::BadQuantization { .. }) && error.to_string().contains(said), "{name}: {error}");
        if *said != "quant_state" {
            let error = refused(dir, name, longer);
            assert!(
                matches!(&error, Error::BadQuantization { .. }) && error.to_string().contains(said),
                "{name}: {error}"
            );
        }
    }
    cases.retain(|(_, name, said)| name != IN_PROJ && *said != "quant_state");
    for (dir, name, said) in &cases {
        let error = refused(dir, name, of_another_type);
        assert!(matches!(&error, Error::BadQuantization { .. }) && error.to_string().contains(said), "{name}: {error}");
    }
    cases.push(("falcon-tiny-nf4", state, "quant_state"));
    for (dir, name, said) in &cases {
        let error = refused(dir, name, |parts, name| drop(parts.remove(name)));
        assert!(matches!(&error, Error::BadQuantization { .. }) && error.to_string().contains(said), "{name}: {error}");
    }
}

#[test]
fn a_wrong_quant_state_is_rejected() {
    let name = format!("{IN_PROJ}.quant_state.bitsandbytes__nf4");
    let with = |key: &str, value: Value| {
        refused("falcon-tiny-nf4", &name, |parts, name| {
            let (_, shape, bytes) = parts.get_mut(name).unwrap();
            let mut state: Value = serde_json::from_slice(bytes).unwrap();
            if value.is_null() {
                state.as_object_mut().unwrap().remove(key).unwrap();
            } else {
                state[key] = value;
            }
            *bytes = state.to_string().into_bytes();
            *shape = vec![bytes.len()];
        })
    };
    for (key, value) in [
        ("quant_type", json!("fp4")),
        ("quant_type", json!("int4")),
        ("quant_type", json!(4)),
        ("quant_type", Value::Null),
        ("shape", json!([256, 65])),
        ("shape", json!([257, 64])),
        ("shape", json!([0, 64])),
        ("shape", json!([-256, 64])),
        ("shape", json!([256.5, 64])),
        ("shape", json!(["256", 64])),
        ("shape", json!([u64::MAX, u64::MAX])),
        ("shape", json!([1u64 << 33, 1u64 << 33])),
        ("shape", json!([])),
        ("shape", json!(16384)),
        ("shape", Value::Null),
        ("nested_offset", json!("0.4")),
        ("nested_offset", Value::Null),
    ] {
        let error = with(key, value.clone());
        assert!(matches!(error, Error::BadQuantization { .. }), "{key} {value}: {error}");
    }
    // Read as plain scales, which must be F32 instead of bytes.
    assert!(matches!(with("nested_blocksize", Value::Null), Error::BadQuantization { .. }));
    for (key, value) in [
        ("blocksize", json!(128)),
        ("blocksize", json!(0)),
        ("blocksize", json!("64")),
        ("blocksize", Value::Null),
        ("nested_blocksize", json!(0)),
        ("nested_blocksize", json!(64)),
    ] {
        let error = with(key, value.clone());
        assert!(matches!(error, Error::Unsupported { .. }), "{key} {value}: {error}");
    }
    for state in ["", "[]", "{", "\u{0}", "null", &"[".repeat(60_000), &format!("[{}0]", "0,".repeat(40_000))] {
        let error = refused("falcon-tiny-nf4", &name, |parts, name| {
            parts.insert(name.to_owned(), (Dtype::U8, vec![state.len()], state.as_bytes().to_vec()));
        });
        assert!(matches!(error, Error::BadQuantization { .. }), "{}: {error}", &state[..state.len().min(9)]);
    }
    // Valid, but with another shape than the config's.
    let sound = source(&parts("falcon-tiny-nf4"));
    assert!(matches!(sound.get(IN_PROJ, &[64, 256]), Err(Error::WrongShape { .. })));
}

#[test]
fn corrupt_bitsandbytes_checkpoints_never_panic() {
    let random = &mut Random::new(20_261_122);
    for dir in ["falcon-tiny-nf4", "falcon-tiny-fp4", "falcon-tiny-int8"] {
        let mut good = parts(dir);
        good.retain(|name, (dtype, ..)| name.contains("layers.0.mixer") && *dtype != Dtype::F16);
        let weights: Vec<String> = good.keys().filter(|name| name.ends_with("proj.weight")).cloned().collect();
        let all: Vec<String> = good.keys().cloned().collect();
        let (mut opened, mut refused) = (0, 0);
        for _ in 0..300 {
            let mut parts = good.clone();
            let name = &all[random.below(all.len())];
            match random.below(6) {
                0 => shorter(&mut parts, name),
                1 => longer(&mut parts, name),
                2 => of_another_type(&mut parts, name),
                3 => drop(parts.remove(name)),
                _ => {
                    let bytes = &mut parts.get_mut(name).unwrap().2;
                    let at = random.below(bytes.len());
                    bytes[at] = b"0129[]{}\",-eE "[random.below(14)];
                }
            }
            let source = source(&parts);
            for name in &weights {
                let Some(shape) = source.shape(name) else { continue };
                match source.get(name, &shape) {
                    Ok(tensor) => {
                        assert_eq!(tensor.to_f32().len(), shape.iter().product::<usize>());
                        opened += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        eprintln!("{dir}: {opened} opened, {refused} refused");
        assert!(opened > 100 && refused > 100, "{dir}: {opened} opened, {refused} refused");
    }
}

#[test]
fn int8_in_a_gpu_specific_layout_is_rejected() {
    let name = IN_PROJ.replace(".weight", ".weight_format");
    let error = refused("falcon-tiny-int8", &name, |parts, name| parts.get_mut(name).unwrap().2 = vec![2]);
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let mut parts = parts("falcon-tiny-int8");
    parts.remove(&name).unwrap();
    source(&parts).get(IN_PROJ, &[256, 64]).unwrap();
}

/// Values after plain rounding to nearest, with the scale that just covers the largest.
fn rounded(format: WeightFormat, values: &[f32]) -> Vec<f32> {
    let short = |scale: f32| f16::from_f32(scale).to_f32();
    let largest = |values: &[f32]| values.iter().fold(0.0f32, |m, v| if v.abs() > m.abs() { *v } else { m });
    let symmetric = |values: &[f32], scale: f32, low: f32, high: f32| -> Vec<f32> {
        values.iter().map(|v| (v / scale).round().clamp(low, high) * scale).collect()
    };
    match format {
        WeightFormat::Q8_0 => {
            values.chunks(32).flat_map(|v| symmetric(v, short(largest(v).abs() / 127.0), -127.0, 127.0)).collect()
        }
        WeightFormat::Q4_0 => {
            values.chunks(32).flat_map(|v| symmetric(v, short(largest(v) / -8.0), -8.0, 7.0)).collect()
        }
        WeightFormat::Int8 => {
            values.chunks(64).flat_map(|v| symmetric(v, largest(v).abs() / 127.0, -127.0, 127.0)).collect()
        }
        WeightFormat::Q6K => {
            let block = |values: &[f32]| -> Vec<f32> {
                let scales: Vec<f32> = values.chunks(16).map(|v| largest(v) / -32.0).collect();
                let unit = short(largest(&scales).abs() / 127.0);
                let groups = values.chunks(16).zip(scales);
                groups.flat_map(|(v, scale)| symmetric(v, (scale / unit).round() * unit, -32.0, 31.0)).collect()
            };
            values.chunks(256).flat_map(block).collect()
        }
        WeightFormat::Q4K | WeightFormat::Q5K => {
            let top = if format == WeightFormat::Q4K { 15.0 } else { 31.0 };
            let block = |values: &[f32]| -> Vec<f32> {
                let bounds =
                    values.chunks(32).map(|v| v.iter().fold((0.0f32, 0.0f32), |m, v| (m.0.min(*v), m.1.max(*v))));
                let fits: Vec<(f32, f32)> = bounds.map(|(low, high)| ((high - low) / top, -low)).collect();
                let unit = short(fits.iter().fold(0.0f32, |m, fit| m.max(fit.0)) / 63.0);
                let unit_of_minima = short(fits.iter().fold(0.0f32, |m, fit| m.max(fit.1)) / 63.0);
                let groups = values.chunks(32).zip(fits);
                groups
                    .flat_map(|(v, (scale, minimum))| {
                        let scale = (scale / unit).round() * unit;
                        let minimum = (minimum / unit_of_minima).round() * unit_of_minima;
                        v.iter().map(move |v| ((v + minimum) / scale).round().clamp(0.0, top) * scale - minimum)
                    })
                    .collect()
            };
            values.chunks(256).flat_map(block).collect()
        }
        WeightFormat::Nf4 | WeightFormat::Fp4 => {
            let map = map_of(format);
            let nearest = |v: f32| map.into_iter().min_by(|a, b| (a - v).abs().total_cmp(&(b - v).abs())).unwrap();
            let block = |values: &[f32]| -> Vec<f32> {
                let scale = largest(values).abs();
                values.iter().map(|v| nearest(v / scale) * scale).collect()
            };
            values.chunks(64).flat_map(block).collect()
        }
        other => panic!("{other} has no scales"),
    }
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

fn normal(random: &mut Random) -> f32 {
    (-2.0 * random.uniform(1e-7, 1.0).ln()).sqrt() * random.uniform(0.0, std::f32::consts::TAU).cos()
}

/// Random weights: normal, or Student's t with three degrees of freedom.
fn weights(count: usize, heavy: bool) -> Vec<f32> {
    let random = &mut Random::new(20_261_122);
    let one = |random: &mut Random| {
        let spread = if heavy { (0..3).map(|_| normal(random).powi(2)).sum::<f32>() / 3.0 } else { 1.0 };
        0.02 * normal(random) / spread.sqrt()
    };
    (0..count).map(|_| one(random)).collect()
}

#[test]
fn searched_scales_leave_less_error_than_plain_rounding() {
    // Maximum share of plain rounding's error, for normal and heavy-tailed values.
    for (format, limits) in [
        (WeightFormat::Q8_0, [0.95, 0.99]),
        (WeightFormat::Q4_0, [0.92, 0.96]),
        (WeightFormat::Q4K, [0.85, 0.85]),
        (WeightFormat::Q5K, [0.88, 0.89]),
        (WeightFormat::Q6K, [0.88, 0.95]),
        (WeightFormat::Nf4, [0.89, 0.95]),
        (WeightFormat::Fp4, [0.89, 0.92]),
        (WeightFormat::Int8, [0.96, 0.99]),
    ] {
        for (heavy, limit) in [false, true].into_iter().zip(limits) {
            let values = weights(1 << 16, heavy);
            let row = format.encode(&values, values.len());
            let searched = squared_error(&values, &decoded(format, &row, values.len()));
            let plain = squared_error(&values, &rounded(format, &values));
            let ratio = searched / plain;
            eprintln!("{format}, heavy {heavy}: {ratio:.3} of the error of plain rounding");
            assert!(
                ratio < limit,
                "{format}, heavy {heavy}: {ratio:.3} of the error of plain rounding, allowed {limit}"
            );
        }
    }
}

#[test]
fn encoding_is_exact_on_a_grid_of_values() {
    for format in [WeightFormat::Q8_0, WeightFormat::Q4_0, WeightFormat::Int8, WeightFormat::Nf4, WeightFormat::Fp4] {
        // Blocks as written by plain rounding: the largest value has the largest code.
        for heavy in [false, true] {
            let values = rounded(format, &weights(1 << 14, heavy));
            let again = decoded(format, &format.encode(&values, values.len()), values.len());
            assert!(values == again, "{format}: {:?}", values.iter().zip(&again).find(|(a, b)| a != b));
        }
        // And blocks written by the encoder.
        let values = weights(1 << 14, false);
        let once = decoded(format, &format.encode(&values, values.len()), values.len());
        let twice = decoded(format, &format.encode(&once, once.len()), once.len());
        let moved = once.iter().zip(&twice).filter(|(a, b)| a != b).count();
        assert!(moved == 0, "{format}: {moved} values of {} moved", once.len());
    }
    // The bits of the blocks are equal, not only the values.
    for dir in ["falcon-tiny-nf4", "falcon-tiny-fp4"] {
        let source = TensorSource::open(&fixture(dir)).unwrap();
        let tensor = source.get(IN_PROJ, &[256, 64]).unwrap();
        let format = tensor.held_as();
        let mut blocks = vec![0; 256 * format.row_bytes(64)];
        tensor.encode_rows(0..256, format, &mut blocks);
        // FP4 has two codes for zero; the encoder uses one.
        let one_zero = |byte: &u8| -> u8 {
            let code = |code: u8| if code == 8 && format == WeightFormat::Fp4 { 0 } else { code };
            code(byte >> 4) << 4 | code(byte & 15)
        };
        let again = format.encode(&tensor.to_f32(), 64);
        for (block, again) in blocks.chunks(36).zip(again.chunks(36)) {
            let codes: Vec<u8> = block[4..].iter().map(one_zero).collect();
            assert!(block[..4] == again[..4] && codes == again[4..], "{dir}: {block:x?} became {again:x?}");
        }
    }
}

#[test]
fn a_row_that_ends_within_a_block_is_filled_with_zeros() {
    let values = weights(1024, false);
    for format in quantized() {
        let block = format.block_values();
        for columns in [1, 2, 7, 16, 31, 32, 33, 48, 63, 65, 100, 160, 255, 257, 300, 511, 700] {
            let row = format.encode(&values[..columns], columns);
            assert_eq!(row.len(), format.row_bytes(columns));
            let whole = decoded(format, &row, columns.next_multiple_of(block));
            assert!(whole[columns..].iter().all(|v| *v == 0.0), "{format}, {columns} columns: {:?}", &whole[columns..]);
            assert_eq!(bits(&decoded(format, &row, columns)), bits(&whole[..columns]), "{format}, {columns} columns");
            let error = squared_error(&values[..columns], &whole);
            let all: f64 = values[..columns].iter().map(|v| f64::from(*v).powi(2)).sum();
            assert!(error < 0.03 * all, "{format}, {columns} columns: {:.4} of the values is error", error / all);
        }
    }
}

#[test]
fn values_of_every_size_keep_their_precision_where_the_format_can() {
    let values = weights(1024, false);
    for format in quantized() {
        let wide = matches!(format, WeightFormat::Nf4 | WeightFormat::Fp4 | WeightFormat::Int8);
        let scales: &[f32] = if wide { &[1e-30, 1e-12, 1.0, 1e12, 1e30] } else { &[1e-2, 1.0, 1e3] };
        for scale in scales {
            let values: Vec<f32> = values.iter().map(|v| v * scale).collect();
            let again = decoded(format, &format.encode(&values, 1024), 1024);
            let [error, all] = [&again, &vec![0.0; 1024]].map(|other| squared_error(&values, other));
            assert!(error < 0.03 * all, "{format}, times {scale:e}: {:.4} of the values is error", error / all);
        }
    }
}

#[test]
fn encoders_never_panic() {
    let random = &mut Random::new(5);
    let odd =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, -1e-45, -0.0, 0.0];
    for format in quantized() {
        for value in odd {
            for columns in [256, 100] {
                let row = format.encode(&vec![value; columns], columns);
                let values = decoded(format, &row, columns);
                if value.abs() <= f32::MIN_POSITIVE {
                    assert!(values.iter().all(|v| v.abs() <= 1e-7), "{format} of {value:e}: {:?}", &values[..4]);
                }
            }
        }
        for _ in 0..200 {
            let values: Vec<f32> = (0..300)
                .map(|_| {
                    if random.below(8) == 0 {
                        odd[random.below(odd.len())]
                    } else {
                        f32::from_bits(random.bits() as u32)
                    }
                })
                .collect();
            let row = format.encode(&values, 300);
            decoded(format, &row, 300);
        }
    }
}
