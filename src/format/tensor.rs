//! A tensor of a checkpoint: its shape and the encoding of its bytes, whatever the container.

use super::WeightFormat;
use super::bnb::Bnb4;
use super::ggml::RareBlock;
use std::ops::Range;

/// A tensor of a checkpoint: its bytes as stored in the file, little endian, row-major.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    /// Its name in the file.
    pub name: String,
    /// The file that holds it.
    pub file: &'a str,
    /// The encoding of its bytes.
    pub encoding: Encoding<'a>,
    /// Its dimensions, slowest first.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// The encoding of a tensor's bytes. Their number fits the shape: the code that makes a [`Tensor`] checks it.
#[derive(Debug, Clone)]
pub enum Encoding<'a> {
    /// Rows of blocks of a format that the device holds.
    Blocks(WeightFormat),
    /// Rows of blocks of a type that is converted on its way to the device.
    Rare(RareBlock),
    /// 4-bit codes of bitsandbytes, with their scales in tensors of their own.
    Bnb4(Bnb4<'a>),
    /// 8-bit codes of bitsandbytes, with a scale for each row: F32, little endian.
    Int8(&'a [u8]),
}

impl<'a> Tensor<'a> {
    /// A tensor whose bytes are rows of blocks.
    pub fn of_blocks(name: &str, file: &'a str, format: WeightFormat, shape: &[usize], bytes: &'a [u8]) -> Self {
        Tensor { name: name.to_owned(), file, encoding: Encoding::Blocks(format), shape: shape.to_vec(), bytes }
    }

    /// Values in a row: the last dimension.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows: the product of the other dimensions.
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// Its format on the device unless another is asked for: lossless, except for some [`RareBlock`]s.
    pub fn held_as(&self) -> WeightFormat {
        match &self.encoding {
            Encoding::Blocks(format) => *format,
            Encoding::Rare(block) => block.held_as(),
            Encoding::Bnb4(codes) => codes.held_as(self.columns()),
            Encoding::Int8(_) => WeightFormat::Int8,
        }
    }

    /// The name of its block type in the file; for bitsandbytes' codes, that of [`Tensor::held_as`].
    pub fn stored_as(&self) -> String {
        match &self.encoding {
            Encoding::Rare(block) => super::gguf::TensorType::of_rare(*block).name(),
            _ => self.held_as().name().to_owned(),
        }
    }

    /// Decodes some rows; exact.
    pub fn decode_rows(&self, rows: Range<usize>, values: &mut [f32]) {
        let columns = self.columns();
        assert_eq!(values.len(), rows.len() * columns, "{}: room for the rows asked for", self.name);
        for (values, row) in values.chunks_exact_mut(columns).zip(rows) {
            match &self.encoding {
                Encoding::Blocks(format) => format.decode_row(self.row(row, format.row_bytes(columns)), values),
                Encoding::Rare(block) => block.decode_row(self.row(row, block.row_bytes(columns)), values),
                Encoding::Bnb4(codes) => codes.decode(self.bytes, row * columns, values),
                Encoding::Int8(scales) => {
                    super::bnb::decode_int8(self.row(row, columns), row_scale(scales, row), values)
                }
            }
        }
    }

    /// Encodes some rows as blocks of a format: copied or repacked where that is lossless, else decoded and rounded.
    pub fn encode_rows(&self, rows: Range<usize>, format: WeightFormat, blocks: &mut [u8]) {
        let columns = self.columns();
        let row_bytes = format.row_bytes(columns);
        assert_eq!(blocks.len(), rows.len() * row_bytes, "{}: room for the rows asked for", self.name);
        if matches!(&self.encoding, Encoding::Blocks(own) if *own == format) {
            return blocks.copy_from_slice(&self.bytes[rows.start * row_bytes..rows.end * row_bytes]);
        }
        let mut values = vec![0.0; columns];
        for (blocks, row) in blocks.chunks_exact_mut(row_bytes).zip(rows) {
            match &self.encoding {
                Encoding::Rare(block) if block.converts_to(format) => {
                    block.transcode_row(self.row(row, block.row_bytes(columns)), blocks);
                }
                Encoding::Bnb4(codes) if codes.held_as(columns) == format && format != WeightFormat::F32 => {
                    codes.blocks(self.bytes, row * columns, columns, blocks);
                }
                Encoding::Int8(scales) if format == WeightFormat::Int8 => {
                    super::bnb::int8_blocks(self.row(row, columns), row_scale(scales, row), blocks);
                }
                _ => {
                    self.decode_rows(row..row + 1, &mut values);
                    format.encode_row(&values, blocks);
                }
            }
        }
    }

    /// Packs some rows in a format for GPU memory: [`WeightFormat::device_row_bytes`] each.
    pub fn pack_rows(&self, rows: Range<usize>, format: WeightFormat, packed: &mut [u8]) {
        let columns = self.columns();
        let (bytes, packed_bytes) = (format.row_bytes(columns), format.device_row_bytes(columns));
        if format.is_plain() && bytes == packed_bytes {
            return self.encode_rows(rows, format, packed);
        }
        let mut blocks = vec![0; bytes];
        for (packed, row) in packed.chunks_exact_mut(packed_bytes).zip(rows) {
            if format.is_plain() {
                let (values, filling) = packed.split_at_mut(bytes);
                self.encode_rows(row..row + 1, format, values);
                filling.fill(0);
            } else {
                self.encode_rows(row..row + 1, format, &mut blocks);
                format.pack_row(&blocks, columns, packed);
            }
        }
    }

    fn row(&self, row: usize, bytes: usize) -> &'a [u8] {
        &self.bytes[row * bytes..][..bytes]
    }

    /// Decodes all values; exact.
    pub fn to_f32(&self) -> Vec<f32> {
        let rows = if self.shape.is_empty() { 1 } else { self.rows() };
        let mut values = vec![0.0; rows * self.columns()];
        self.decode_rows(0..rows, &mut values);
        values
    }

    /// The bytes of the file that some rows are decoded from; scales in other tensors aside.
    pub fn parts(&self, rows: Range<usize>) -> Vec<&'a [u8]> {
        let all = self.rows().max(1);
        // A row of 4-bit codes may begin inside a byte; both rows then include that byte.
        let [from, to] =
            [rows.start, rows.end].map(|row| (self.bytes.len() as u128 * row as u128 / all as u128) as usize);
        vec![&self.bytes[from..to]]
    }
}

fn row_scale(scales: &[u8], row: usize) -> f32 {
    f32::from_le_bytes(scales[4 * row..][..4].try_into().expect("four bytes"))
}
