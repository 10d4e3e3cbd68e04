//! Weights quantized by bitsandbytes: 4-bit codes in blocks of 64 whose scales may be quantized too (double quantization), and
//! 8-bit codes with one scale a row. Format: `QuantState.as_dict` in bitsandbytes' functional.py.

use super::block::{FP4, NF4};
use super::{Encoding, Tensor, WeightFormat};
use crate::error::{Error, Result};
use safetensors::Dtype;
use serde_json::Value;

/// Values of a block, counted over the whole matrix: a block may begin and end inside a row.
const BLOCK: usize = 64;

/// Scales that share a second-level scale in double quantization.
const NESTED: usize = 256;

/// Upper limit on the bytes of a quant_state; bitsandbytes writes about 200.
const LONGEST_STATE: usize = 1 << 16;

/// A tensor as its file stores it.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub file: &'a str,
    pub dtype: Dtype,
    pub shape: &'a [usize],
    pub bytes: &'a [u8],
}

/// Finds a tensor of the checkpoint by its name.
pub(super) type Lookup<'s, 'a> = &'s dyn Fn(&str) -> Option<Stored<'a>>;

/// The tensor called `name` if bitsandbytes quantized it. Checks that each of its parts has the bytes that its shape asks for.
pub(super) fn find<'a>(name: &str, stored: Stored<'a>, lookup: Lookup<'_, 'a>) -> Result<Option<Tensor<'a>>> {
    let parts = Parts { name, stored, lookup };
    for (kind, format) in [("nf4", WeightFormat::Nf4), ("fp4", WeightFormat::Fp4)] {
        if let Some(state) = lookup(&format!("{name}.quant_state.bitsandbytes__{kind}")) {
            return parts.four_bit(kind, format, state.bytes).map(Some);
        }
    }
    if lookup(&format!("{name}.absmax")).is_some() {
        return Err(parts.bad("its quant_state.bitsandbytes__nf4 or __fp4 is missing"));
    }
    if stored.dtype == Dtype::I8 { parts.int8().map(Some) } else { Ok(None) }
}

/// Suffixes that the parts of a 4-bit weight add to its name, and those that replace the end of an 8-bit weight's name.
const BELOW: [&str; 6] = [
    ".absmax",
    ".quant_map",
    ".nested_absmax",
    ".nested_quant_map",
    ".quant_state.bitsandbytes__nf4",
    ".quant_state.bitsandbytes__fp4",
];
const BESIDE: [&str; 2] = [".SCB", ".weight_format"];

/// The name of the weight that a tensor of this name is a part of.
pub(super) fn weight_of(name: &str) -> Option<String> {
    let below = BELOW.iter().find_map(|end| name.strip_suffix(end)).map(str::to_owned);
    below.or_else(|| Some(format!("{}.weight", BESIDE.iter().find_map(|end| name.strip_suffix(end))?)))
}

/// A quantized tensor and the lookup of its parts.
struct Parts<'s, 'a> {
    name: &'s str,
    stored: Stored<'a>,
    lookup: Lookup<'s, 'a>,
}

impl<'a> Parts<'_, 'a> {
    fn four_bit(&self, kind: &str, format: WeightFormat, state: &[u8]) -> Result<Tensor<'a>> {
        if state.len() > LONGEST_STATE {
            return Err(self.bad(format!("its quant_state has {} bytes", state.len())));
        }
        let state: Value =
            serde_json::from_slice(state).map_err(|e| self.bad(format!("its quant_state is not JSON: {e}")))?;
        let says = |key: &str| state.get(key).unwrap_or(&Value::Null);
        if says("quant_type") != kind {
            return Err(self.bad(format!("its quant_state is called {kind} and says {}", says("quant_type"))));
        }
        if says("blocksize") != BLOCK {
            return Err(self.unsupported(format!("blocksize {}", says("blocksize")), "supported are blocks of 64"));
        }
        let size = |v: &Value| v.as_u64().and_then(|v| usize::try_from(v).ok());
        let shape: Option<Vec<usize>> =
            says("shape").as_array().and_then(|sizes| sizes.iter().map(size).collect::<Option<_>>());
        let shape = shape.ok_or_else(|| self.bad(format!("its quant_state gives the shape {}", says("shape"))))?;
        let count = shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n));
        let count = count.filter(|n| n.div_ceil(2) == self.stored.bytes.len()).ok_or_else(|| {
            self.bad(format!("{} bytes are not the codes of shape {shape:?}", self.stored.bytes.len()))
        })?;
        let scales = self.scales(count.div_ceil(BLOCK), &state)?;
        let map = f32s(self.part("quant_map", Dtype::F32, 16)?);
        let map = map.try_into().expect("its length is checked");
        Ok(self.tensor(shape, Encoding::Bnb4(Bnb4 { format, map, scales })))
    }

    fn scales(&self, count: usize, state: &Value) -> Result<Scales<'a>> {
        let Some(size) = state.get("nested_blocksize") else {
            return Ok(Scales::Plain(self.part("absmax", Dtype::F32, count)?));
        };
        if *size != NESTED {
            return Err(self.unsupported(format!("nested_blocksize {size}"), "supported is 256"));
        }
        let offset = state.get("nested_offset").and_then(Value::as_f64).map(|offset| offset as f32);
        Ok(Scales::Nested {
            codes: self.part("absmax", Dtype::U8, count)?,
            map: self.part("nested_quant_map", Dtype::F32, 256)?,
            absmax: self.part("nested_absmax", Dtype::F32, count.div_ceil(NESTED))?,
            offset: offset.ok_or_else(|| self.bad("its quant_state has no nested_offset"))?,
        })
    }

    fn int8(&self) -> Result<Tensor<'a>> {
        let Stored { shape, .. } = self.stored;
        let rows = shape.iter().rev().skip(1).product();
        // The names of 8-bit parts replace `.weight`: `in_proj.SCB`.
        let beside = |part: &str| format!("{}.{part}", self.name.strip_suffix(".weight").unwrap_or(self.name));
        let scales = self.checked("SCB", (self.lookup)(&beside("SCB")), Dtype::F32, rows)?;
        // Absent in old files. Nonzero values are byte orders for the tensor cores of some GPUs.
        if let Some(order) = (self.lookup)(&beside("weight_format"))
            && order.bytes.iter().any(|order| *order != 0)
        {
            return Err(self.unsupported(format!("weight_format {:?}", order.bytes), "supported is 0, row by row"));
        }
        Ok(self.tensor(shape.to_vec(), Encoding::Int8(scales)))
    }

    fn tensor(&self, shape: Vec<usize>, encoding: Encoding<'a>) -> Tensor<'a> {
        let Stored { file, bytes, .. } = self.stored;
        Tensor { name: self.name.to_owned(), file, encoding, shape, bytes }
    }

    /// The bytes of a part of this tensor.
    fn part(&self, part: &str, dtype: Dtype, count: usize) -> Result<&'a [u8]> {
        self.checked(part, (self.lookup)(&format!("{}.{part}", self.name)), dtype, count)
    }

    fn checked(&self, part: &str, found: Option<Stored<'a>>, dtype: Dtype, count: usize) -> Result<&'a [u8]> {
        let found = found.ok_or_else(|| self.bad(format!("its {part} is missing")))?;
        let bytes = if dtype == Dtype::F32 { count.checked_mul(4) } else { Some(count) };
        if found.dtype != dtype || bytes != Some(found.bytes.len()) {
            let (shape, type_found) = (found.shape, found.dtype);
            return Err(self.bad(format!("its {part} is {type_found:?} {shape:?}, it must be {dtype:?} [{count}]")));
        }
        Ok(found.bytes)
    }

    fn bad(&self, problem: impl Into<String>) -> Error {
        Error::BadQuantization {
            tensor: self.name.to_owned(),
            file: self.stored.file.to_owned(),
            problem: problem.into(),
        }
    }

    fn unsupported(&self, what: String, hint: &str) -> Error {
        Error::Unsupported {
            file: self.stored.file.to_owned(),
            what: format!("{}: {what}", self.name),
            hint: hint.to_owned(),
        }
    }
}

/// The scales and the code map of a matrix of 4-bit codes.
#[derive(Debug, Clone)]
pub struct Bnb4<'a> {
    /// NF4 or FP4.
    format: WeightFormat,
    map: [f32; 16],
    scales: Scales<'a>,
}

/// One scale for each block of 64.
#[derive(Debug, Clone)]
enum Scales<'a> {
    /// F32.
    Plain(&'a [u8]),
    /// Double quantization: a scale is `map[code] * absmax[block / 256] + offset`.
    Nested { codes: &'a [u8], map: &'a [u8], absmax: &'a [u8], offset: f32 },
}

impl Scales<'_> {
    fn of(&self, block: usize) -> f32 {
        match self {
            Scales::Plain(absmax) => f32_at(absmax, block),
            Scales::Nested { codes, map, absmax, offset } => {
                f32_at(map, usize::from(codes[block])) * f32_at(absmax, block / NESTED) + offset
            }
        }
    }
}

impl Bnb4<'_> {
    /// The format that holds rows of `columns` values without loss: NF4 or FP4 where blocks of 64 never straddle rows and the map
    /// is the standard one, else f32.
    pub fn held_as(&self, columns: usize) -> WeightFormat {
        let standard = if self.format == WeightFormat::Nf4 { NF4.map } else { FP4.map };
        let whole = columns > 0 && (columns.is_multiple_of(BLOCK) || BLOCK.is_multiple_of(columns));
        if self.map == standard && whole { self.format } else { WeightFormat::F32 }
    }

    /// Decodes values from index `first` of the matrix; exact.
    pub fn decode(&self, codes: &[u8], first: usize, values: &mut [f32]) {
        let mut block = usize::MAX;
        let mut scale = 0.0;
        for (value, i) in values.iter_mut().zip(first..) {
            if i / BLOCK != block {
                block = i / BLOCK;
                scale = self.scales.of(block);
            }
            *value = self.map[usize::from(code_at(codes, i))] * scale;
        }
    }

    /// The row of `columns` values from index `first` of the matrix, as blocks of [`Bnb4::held_as`].
    pub fn blocks(&self, codes: &[u8], first: usize, columns: usize, blocks: &mut [u8]) {
        let zero = if self.format == WeightFormat::Nf4 { NF4.zero } else { FP4.zero };
        let mut rest = first..first + columns;
        for (scale, packed) in blocks.as_chunks_mut::<36>().0.iter_mut().map(|b| b.split_at_mut(4)) {
            scale.copy_from_slice(&self.scales.of(rest.start / BLOCK).to_le_bytes());
            if rest.start.is_multiple_of(2) && rest.len() >= BLOCK {
                packed.copy_from_slice(&codes[rest.start / 2..][..BLOCK / 2]);
                rest.start += BLOCK;
                continue;
            }
            let mut next = || rest.next().map_or(zero, |i| code_at(codes, i));
            packed.iter_mut().for_each(|byte| *byte = next() << 4 | next());
        }
    }
}

/// Code `i`; the first of two in a byte is the high nibble.
fn code_at(codes: &[u8], i: usize) -> u8 {
    if i.is_multiple_of(2) { codes[i / 2] >> 4 } else { codes[i / 2] & 15 }
}

fn f32_at(bytes: &[u8], i: usize) -> f32 {
    f32::from_le_bytes(bytes.as_chunks().0[i])
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Decodes a row of 8-bit codes: `code * scale / 127`.
pub(super) fn decode_int8(codes: &[u8], scale: f32, values: &mut [f32]) {
    let step = scale / 127.0;
    values.iter_mut().zip(codes).for_each(|(value, q)| *value = f32::from(q.cast_signed()) * step);
}

/// Repacks a row of 8-bit codes as blocks of [`WeightFormat::Int8`].
pub(super) fn int8_blocks(codes: &[u8], scale: f32, blocks: &mut [u8]) {
    for (block, codes) in blocks.as_chunks_mut::<68>().0.iter_mut().zip(codes.chunks(BLOCK)) {
        block.fill(0);
        block[..4].copy_from_slice(&(scale / 127.0).to_le_bytes());
        block[4..][..codes.len()].copy_from_slice(codes);
    }
}
