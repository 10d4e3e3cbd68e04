//! Blocks of quantized values: what they mean, bit for bit, and how good those are that values become.

mod common;

use common::{Expected, fixture};
use peregrine::Error;
use peregrine::format::{RareBlock, TensorSource, WeightFormat};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The formats whose blocks have scales.
const QUANTIZED: [WeightFormat; 8] = [
    WeightFormat::Q8_0,
    WeightFormat::Q4_0,
    WeightFormat::Q4K,
    WeightFormat::Q5K,
    WeightFormat::Q6K,
    WeightFormat::Nf4,
    WeightFormat::Fp4,
    WeightFormat::Int8,
];

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
fn blocks_of_gguf_mean_what_they_mean_there() {
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
fn rare_blocks_become_others_without_loss() {
    let mut lossless = 0;
    for (block, name) in RARE {
        let format = block.held_as();
        if !block.becomes(format) {
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
    for format in QUANTIZED {
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
fn weights_of_bitsandbytes_mean_what_they_mean_there() {
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
            // As the device holds it.
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

/// A matrix of bitsandbytes without nesting, of `columns` with codes that tell their places.
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

fn nf4_map() -> [f32; 16] {
    let mut block = [0; 36];
    block[..4].copy_from_slice(&1.0f32.to_le_bytes());
    block[4..12].copy_from_slice(&[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
    decoded(WeightFormat::Nf4, &block, 16).try_into().unwrap()
}

#[test]
fn any_shape_and_any_map_of_bitsandbytes_is_held_without_loss() {
    let map = nf4_map();
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
            // What fills up the last block is zero.
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

/// The error of a checkpoint with one tensor changed or taken away.
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
fn parts_of_bitsandbytes_that_lie_are_refused() {
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
fn a_quant_state_that_lies_is_refused() {
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
    // Taken as plain scales, which are F32 and not bytes.
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
    // Sound, but of another shape than the config asks for.
    let sound = source(&parts("falcon-tiny-nf4"));
    assert!(matches!(sound.get(IN_PROJ, &[64, 256]), Err(Error::WrongShape { .. })));
}

#[test]
fn int8_in_an_order_of_some_gpu_is_refused() {
    let name = IN_PROJ.replace(".weight", ".weight_format");
    let error = refused("falcon-tiny-int8", &name, |parts, name| parts.get_mut(name).unwrap().2 = vec![2]);
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let mut parts = parts("falcon-tiny-int8");
    parts.remove(&name).unwrap();
    source(&parts).get(IN_PROJ, &[256, 64]).unwrap();
}
