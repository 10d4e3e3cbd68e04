//! The tensor types of GGUF files, by their numbers.

use crate::format::source::StoredType;
use crate::format::{RareBlock, WeightFormat};

/// The size of a block.
pub(super) struct BlockSize {
    pub(super) values: usize,
    pub(super) bytes: usize,
}

/// The type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorType(pub(super) u32);

const HELD: [(u32, WeightFormat); 8] = [
    (0, WeightFormat::F32),
    (1, WeightFormat::F16),
    (2, WeightFormat::Q4_0),
    (8, WeightFormat::Q8_0),
    (12, WeightFormat::Q4K),
    (13, WeightFormat::Q5K),
    (14, WeightFormat::Q6K),
    (30, WeightFormat::Bf16),
];

const RARE: [(u32, RareBlock); 7] = [
    (3, RareBlock::Q4_1),
    (6, RareBlock::Q5_0),
    (7, RareBlock::Q5_1),
    (10, RareBlock::Q2K),
    (11, RareBlock::Q3K),
    (20, RareBlock::Iq4Nl),
    (23, RareBlock::Iq4Xs),
];

/// Names of all types that are or were in use.
const NAMES: [(u32, &str); 37] = [
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (6, "Q5_0"),
    (7, "Q5_1"),
    (8, "Q8_0"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (30, "BF16"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

impl TensorType {
    /// The type of this format; `None` for those of bitsandbytes.
    pub fn of(format: WeightFormat) -> Option<Self> {
        HELD.into_iter().find(|(_, held)| *held == format).map(|(number, _)| TensorType(number))
    }

    /// The type of a block type that is converted for the device.
    pub fn of_rare(block: RareBlock) -> Self {
        let found = RARE.into_iter().find(|(_, rare)| *rare == block);
        found.map(|(number, _)| TensorType(number)).expect("every rare type is in the table")
    }

    /// Its usual name, or its number.
    pub fn name(self) -> String {
        let known = NAMES.into_iter().find(|(number, _)| *number == self.0);
        known.map_or_else(|| format!("type {}", self.0), |(_, name)| name.to_owned())
    }

    /// How peregrine reads it, and the size of its blocks, which is unknown for types that are not read.
    pub(super) fn stored(self) -> (StoredType, Option<BlockSize>) {
        if let Some((_, format)) = HELD.into_iter().find(|(number, _)| *number == self.0) {
            return (
                StoredType::Blocks(format),
                Some(BlockSize { values: format.block_values(), bytes: format.block_bytes() }),
            );
        }
        if let Some((_, block)) = RARE.into_iter().find(|(number, _)| *number == self.0) {
            return (
                StoredType::Rare(block),
                Some(BlockSize { values: block.block_values(), bytes: block.block_bytes() }),
            );
        }
        (StoredType::Unread(self.name()), None)
    }
}
