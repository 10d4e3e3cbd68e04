//! The kernels: each family's parameters, declaration, recording, CPU twin and cases in one file.

pub mod case;
pub mod conv;
pub mod dbc_norm;
pub mod embed;
pub mod fill;
pub mod linear;
pub mod matmul;
pub mod matvec;
pub mod product;
pub mod rms_norm;
pub mod scan;
pub mod select;
pub mod ssm_step;
pub mod stream;
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

/// A matrix of activations, `[rows, width]` f32; a row starts every `stride` floats.
#[derive(Clone)]
pub struct Activation {
    /// The values.
    pub buf: Buf<f32>,
    /// Columns.
    pub width: usize,
    /// Floats from one row to the next.
    pub stride: usize,
}

impl Activation {
    /// A new one, all zero, its rows filled up to whole units.
    pub fn new(gpu: &Gpu, label: &str, rows: usize, width: usize) -> Result<Self> {
        let stride = width.next_multiple_of(ROW_ALIGN);
        Ok(Activation { buf: gpu.buffer(label, rows * stride, Usage::Storage)?, width, stride })
    }

    /// A new one without filling: for results that no product reads.
    pub fn dense(gpu: &Gpu, label: &str, rows: usize, width: usize) -> Result<Self> {
        Ok(Activation { buf: gpu.buffer(label, rows * width, Usage::Storage)?, width, stride: width })
    }

    /// Columns `columns` of `rows` rows, read back.
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
        Part::Subgroups { with, without } | Part::Longs { with, without } => [with.file, without.file],
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
