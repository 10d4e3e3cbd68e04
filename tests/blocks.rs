//! Blocks of quantized values: what they mean, bit for bit, and how good those are that values become.

mod common;

use common::fixture;
use peregrine::format::{RareBlock, WeightFormat};

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
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
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
