//! The kernels: each family's parameters, declaration, recording, CPU twin and cases in one file.

pub mod case;
pub mod conv;
pub mod dbc_norm;
pub mod embed;
pub mod fill;
pub mod int8;
pub mod linear;
pub mod matmul;
pub mod matvec;
pub mod product;
pub mod rms_norm;
pub mod scan;
pub mod select;
pub mod ssm_step;
pub mod stream;
pub mod tops;
pub mod variants;

use crate::error::Result;
use crate::gpu::{Buf, Caps, Gpu, KernelDef, Part, Source, Usage, params, wgsl};
use bytemuck::{Pod, Zeroable};
use case::Case;

/// Rows of activations are filled up to a multiple of this many floats, so that whole units of every weight format can be
/// read. The filling is zero and stays so.
pub const ROW_ALIGN: usize = 32;

const MATH: Part = Part::File(wgsl!("lib/math.wgsl"));
const BATCH: Part = Part::File(wgsl!("lib/batch.wgsl"));
const ROW: Part = Part::File(wgsl!("lib/row.wgsl"));
const PLACED: Part = Part::File(wgsl!("lib/placed.wgsl"));
const TEAM: Part = Part::Subgroups { with: wgsl!("lib/team_subgroup.wgsl"), without: wgsl!("lib/team_shared.wgsl") };

/// What a product reads.
const X: Part = Part::Longs { with: wgsl!("lib/x_longs.wgsl"), without: wgsl!("lib/x_words.wgsl") };

/// Rows of a decode step that may share what is loaded of the weights: as many as there are, rounded up, or passes of the most.
const COLUMNS: [u32; 4] = [1, 2, 4, 8];

const fn file(source: Source) -> Part {
    Part::File(source)
}

params! {
    /// What one step works on; the host writes it before the step.
    #[derive(Default)]
    pub struct Batch {
        /// Rows of this step: tokens of a prefill chunk, or decoding slots.
        rows: u32,
        /// First row of the residual stream that the head looks at.
        first: u32,
        /// Prefill: the slot whose state is carried on.
        slot: u32,
        /// Prefill: the version of that state to start from.
        read_version: u32,
        /// Prefill: the version of that state to leave behind.
        write_version: u32,
        /// First entry of the row table that select writes.
        entry: u32,
        /// 1: select moves position and version on by one.
        advance: u32,
    }
}

/// One entry of the row table: which slot a row belongs to, the token it reads, and where its state stands.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Row {
    /// The slot.
    pub slot: u32,
    /// The token this row feeds next.
    pub id: u32,
    /// Tokens the slot has consumed, modulo 2^32.
    pub position: u32,
    /// Steps the slot has taken; its state lies in this modulo the number of versions.
    pub version: u32,
}

/// How the values of a row of activations lie, by what reads them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// One after the other.
    #[default]
    Plain,
    /// By quads, for products in a decode step with formats whose unit holds 32 values: quad q of unit u is quad
    /// `q * units + u`, so that lanes that take a unit each read side by side.
    ByQuads,
    /// As int8 by groups of 32 values, see [`int8`].
    Int8,
}

impl Order {
    /// What `placed` of the shaders takes: the logarithm of the quads of a unit, and the units of a row of so many values.
    pub fn placing(self, width: usize) -> [u32; 2] {
        match self {
            Order::Plain => [0, 0],
            Order::ByQuads => [3, size(width.div_ceil(32))],
            Order::Int8 => [0, size(width.div_ceil(int8::GROUP))],
        }
    }

    /// Where value `column` of a row of `width` f32 values lies.
    pub fn place(self, column: usize, width: usize) -> usize {
        match self {
            Order::Plain => column,
            Order::Int8 => unreachable!("packed values have no places of their own"),
            Order::ByQuads => {
                let (quad, units) = (column / 4, width.div_ceil(32));
                4 * (quad % 8 * units + quad / 8) + column % 4
            }
        }
    }
}

/// A matrix of activations, `[rows, width]` f32 or int8; a row starts every `stride` words.
#[derive(Clone)]
pub struct Activation {
    /// The values.
    pub buf: Buf<f32>,
    /// Columns.
    pub width: usize,
    /// Floats from one row to the next.
    pub stride: usize,
    /// How the values of a row lie.
    pub order: Order,
}

impl Activation {
    /// A new one, all zero, its rows filled up to whole units.
    pub fn new(gpu: &Gpu, label: &str, rows: usize, width: usize) -> Result<Self> {
        let stride = width.next_multiple_of(ROW_ALIGN);
        Ok(Activation { buf: gpu.buffer(label, rows * stride, Usage::Storage)?, width, stride, order: Order::Plain })
    }

    /// A new one without filling: for results that no product reads.
    pub fn dense(gpu: &Gpu, label: &str, rows: usize, width: usize) -> Result<Self> {
        let buf = gpu.buffer(label, rows * width, Usage::Storage)?;
        Ok(Activation { buf, width, stride: width, order: Order::Plain })
    }

    /// The same memory with its first `width` columns in another order: what one product reads is written so.
    pub fn ordered(&self, width: usize, order: Order) -> Self {
        assert!(width.next_multiple_of(ROW_ALIGN) <= self.stride, "a row is long enough");
        Activation { buf: self.buf.clone(), width, stride: self.stride, order }
    }

    /// Writes the values of a row.
    pub fn write_row(&self, gpu: &Gpu, row: usize, values: &[f32]) -> Result<()> {
        if self.order == Order::Int8 {
            let words: Vec<f32> = int8::pack(values).into_iter().map(f32::from_bits).collect();
            return gpu.write(&self.buf, row * self.stride, &words);
        }
        let mut placed = vec![0.0; values.len().next_multiple_of(ROW_ALIGN)];
        for (column, value) in values.iter().enumerate() {
            placed[self.order.place(column, values.len())] = *value;
        }
        gpu.write(&self.buf, row * self.stride, &placed)
    }

    /// Columns `columns` of `rows` rows, read back as they lie.
    pub async fn read(&self, gpu: &Gpu, rows: usize, columns: std::ops::Range<usize>) -> Result<Vec<f32>> {
        let all = gpu.read(&self.buf, 0..rows * self.stride).await?;
        Ok(all.chunks_exact(self.stride).flat_map(|row| row[columns.clone()].iter().copied()).collect())
    }
}

/// Every declaration with every choice of parts, and every case.
pub fn all(caps: &Caps) -> Vec<(Vec<KernelDef>, Vec<Case>)> {
    let mut all = vec![
        (embed::defs(), embed::cases()),
        (rms_norm::defs(), rms_norm::cases()),
        (matvec::defs(caps), matvec::cases(caps)),
        (matmul::defs(caps), matmul::cases(caps)),
        (conv::defs(), conv::cases()),
        (dbc_norm::defs(), dbc_norm::cases()),
        (ssm_step::defs(caps), ssm_step::cases(caps)),
        (select::defs(), select::cases()),
        (fill::defs(), fill::cases()),
        (stream::defs(), stream::cases()),
        (tops::defs(), tops::cases()),
    ];
    all.extend(scan::Form::all(caps).into_iter().map(|form| (scan::defs(form), scan::cases(form))));
    all
}

/// Files of the folder of shaders that no kernel of this adapter is linked from: of a name that is wrong, or for others.
pub fn unused_shaders(caps: &Caps) -> Vec<String> {
    let Some(folder) = &caps.shaders else { return Vec::new() };
    let defs: Vec<KernelDef> = all(caps).into_iter().flat_map(|(defs, _)| defs).collect();
    let of_part = |part: &Part| match part {
        Part::File(source) => [source.file; 2],
        Part::Subgroups { with, without } | Part::Cpu { with, without } | Part::Longs { with, without } => {
            [with.file, without.file]
        }
    };
    let used: Vec<&str> = defs.iter().flat_map(|def| &def.parts).flat_map(of_part).collect();
    folder.files().filter(|file| !used.contains(file)).map(str::to_owned).collect()
}

/// A size as shaders take it. Shapes are bounded when a config is read.
pub(crate) fn size(n: usize) -> u32 {
    u32::try_from(n).expect("shapes are bounded when a config is read")
}

/// Bytes of so many f32.
pub(crate) fn floats(n: usize) -> usize {
    n * size_of::<f32>()
}

/// log(1 + e^v), as the kernels mean it.
pub fn softplus(v: f64) -> f64 {
    v.max(0.0) + (-v.abs()).exp().ln_1p()
}

/// v / (1 + e^-v), as the kernels mean it.
pub fn silu(v: f64) -> f64 {
    v / (1.0 + (-v).exp())
}
