//! Activations of a Mamba: the buffers of its steps besides weights and state.

use super::{Mamba, sizes};
use crate::error::Result;
use crate::gpu::{Buf, Gpu, Usage};
use crate::kernels::linear::gate_first;
use crate::kernels::scan::MOST_SEGMENTS;
use crate::kernels::{Activation, dbc_norm, stride};
use crate::model::capacity::Capacity;
use crate::model::config::Config;
use crate::model::options::AUTOMATIC;

/// Activations of a decode step of at most `rows` rows.
pub(super) struct DecodeScratch {
    /// The residual stream; each layer reads one and writes the other.
    pub(super) x: [Activation; 2],
    /// The stream times the weights of the next norm.
    pub(super) normed: Activation,
    /// Partial sums of the stream's squares.
    pub(super) squares: Buf<f32>,
    /// After the convolution, and the gate; both after SiLU.
    pub(super) xg: Activation,
    pub(super) projected: Activation,
    pub(super) gated: Activation,
}

impl DecodeScratch {
    /// With `parts` partial sums of squares a row.
    pub(super) fn new(gpu: &Gpu, config: &Config, rows: usize, parts: usize) -> Result<Self> {
        let mamba = sizes(config);
        let new = |label, width| Activation::new(gpu, label, rows, width);
        Ok(DecodeScratch {
            x: [new("step x even", config.hidden)?, new("step x odd", config.hidden)?],
            normed: new("step normed", config.hidden)?,
            squares: gpu.buffer("step squares", rows * parts.next_multiple_of(4), Usage::Storage)?,
            xg: new("step xg", 2 * gate_first(mamba.inner))?,
            projected: new("step projected", mamba.x_proj_rows())?,
            gated: new("step gated", mamba.inner)?,
        })
    }

    /// Bytes of one row of all of them.
    fn row_bytes(mamba: &Mamba, hidden: usize) -> usize {
        let (h, d) = (hidden, mamba.inner);
        // There is a partial sum of squares for each to each fourth row of out_proj.
        bytes(&[h, h, h, 2 * gate_first(d), mamba.x_proj_rows(), d]) + h * size_of::<f32>()
    }
}

/// Bytes of one row of each of these widths.
fn bytes(widths: &[usize]) -> usize {
    widths.iter().map(|width| stride(*width)).sum::<usize>() * size_of::<f32>()
}

/// Activations of a chunk of at most `rows` tokens.
pub(in crate::model) struct PrefillScratch {
    /// The residual stream; each layer reads one and writes the other.
    pub(super) x: [Activation; 2],
    pub(super) normed: Activation,
    pub(super) xz: Activation,
    pub(super) conv: Activation,
    pub(super) projected: Activation,
    pub(super) dbc: Activation,
    pub(super) dt: Activation,
    pub(super) gated: Activation,
}

impl PrefillScratch {
    pub(super) fn new(gpu: &Gpu, config: &Config, rows: usize) -> Result<Self> {
        let mamba = sizes(config);
        let new = |label, width| Activation::new(gpu, label, rows, width);
        Ok(PrefillScratch {
            x: [new("x even", config.hidden)?, new("x odd", config.hidden)?],
            normed: new("normed", config.hidden)?,
            xz: new("xz", 2 * mamba.inner)?,
            conv: new("conv", mamba.inner)?,
            projected: new("projected", mamba.x_proj_rows())?,
            dbc: new("dbc", mamba.dbc_layout().width())?,
            dt: new("dt", mamba.inner)?,
            gated: new("gated", mamba.inner)?,
        })
    }

    /// Where the residual stream is after the last layer.
    pub(in crate::model) fn last_x(&self, layers: usize) -> &Activation {
        &self.x[layers % 2]
    }

    /// Bytes of one row of all of them.
    fn row_bytes(mamba: &Mamba, hidden: usize) -> usize {
        let (h, d) = (hidden, mamba.inner);
        bytes(&[h, h, h, 2 * d, d, mamba.x_proj_rows(), mamba.dbc_layout().width(), d, d])
    }
}

impl Mamba {
    pub(super) fn dbc_layout(&self) -> dbc_norm::DbcLayout {
        dbc_norm::DbcLayout { dt_rank: self.dt_rank, state: self.state }
    }

    /// Bytes of a row of the widest activation.
    pub(in crate::model) fn widest_row(&self, hidden: usize) -> u64 {
        let widest = (2 * self.inner).max(hidden).max(self.x_proj_rows());
        (stride(widest) * size_of::<f32>()) as u64
    }

    /// Bytes of all activations of the layers.
    pub(in crate::model) fn activation_bytes(&self, hidden: usize, capacity: &Capacity) -> usize {
        let Capacity { slots, chunk, segments, .. } = *capacity;
        let scratch = chunk * PrefillScratch::row_bytes(self, hidden) + slots * DecodeScratch::row_bytes(self, hidden);
        let segments = if segments == AUTOMATIC { MOST_SEGMENTS } else { segments };
        let carried = if segments > 1 { segments.min(chunk) * self.inner * (self.state + 1) } else { 0 };
        scratch + carried * size_of::<f32>()
    }
}
