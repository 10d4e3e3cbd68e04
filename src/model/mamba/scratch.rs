//! Activations of a Mamba: the buffers of its steps besides weights and state.

use super::{Mamba, sizes};
use crate::error::Result;
use crate::gpu::{Buf, Gpu, Usage};
use crate::kernels::dbc_norm::{DbcLayout, Projected};
use crate::kernels::linear::gate_first;
use crate::kernels::scan::MOST_SEGMENTS;
use crate::kernels::{Activation, stride};
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
    pub(super) dbc: Activation,
    pub(super) dt: Activation,
    /// Memory of x_proj's output where it does not fit into that of dt.
    apart: Option<Activation>,
    rows: usize,
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
            dbc: new("dbc", mamba.dbc_layout().width())?,
            dt: new("dt", mamba.inner)?,
            apart: match mamba.dbc_layout().width_beside_dt(mamba.inner) {
                0 => None,
                width => Some(new("projected", width)?),
            },
            rows,
            gated: new("gated", mamba.inner)?,
        })
    }

    /// x_proj's output, whose sums are in so many slices of k.
    pub(super) fn projected(&self, layout: DbcLayout, slices: u32) -> Projected {
        Projected::at(self.apart.as_ref().unwrap_or(&self.dt), self.rows, layout, slices)
    }

    /// Where the residual stream is after the last layer.
    pub(in crate::model) fn last_x(&self, layers: usize) -> &Activation {
        &self.x[layers % 2]
    }

    /// Bytes of one row of all of them.
    fn row_bytes(mamba: &Mamba, hidden: usize) -> usize {
        let (h, d) = (hidden, mamba.inner);
        let layout = mamba.dbc_layout();
        bytes(&[h, h, h, 2 * d, d, layout.width_beside_dt(d), layout.width(), d, d])
    }
}

impl Mamba {
    pub(super) fn dbc_layout(&self) -> DbcLayout {
        DbcLayout { dt_rank: self.dt_rank, state: self.state }
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
