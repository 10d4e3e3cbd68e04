//! The order of a Mamba's kernels in a prefill chunk.

use super::scratch::PrefillScratch;
use super::state::{CONV, SSM};
use super::weights::Layer;
use super::{Mamba, sizes};
use crate::error::Result;
use crate::gpu::{Buf, Plan};
use crate::kernels::conv::Conv;
use crate::kernels::linear::{Epilogue, Prologue};
use crate::kernels::scan::{Operands, Over, Scan, Segments};
use crate::kernels::{Batch, dbc_norm, embed, rms_norm};
use crate::model::capacity::Capacity;
use crate::model::plans::{Lookup, Recorder};
use crate::model::state::{StateBank, VERSIONS};

/// Records embedding and layers for a chunk of tokens.
pub(in crate::model) fn prefill(
    recorder: &Recorder<'_>,
    plan: &mut Plan,
    from: &Lookup<'_>,
    batch: &Buf<Batch>,
    capacity: Capacity,
) -> Result<PrefillScratch> {
    let Capacity { chunk, segments, .. } = capacity;
    let mamba = sizes(recorder.config);
    let chunk = Chunk {
        recorder,
        mamba,
        on: PrefillScratch::new(recorder.gpu, recorder.config, chunk)?,
        segments: Segments::new(recorder.gpu, chunk, segments, mamba.inner, mamba.state)?,
        batch,
    };
    embed::record(plan, from.table, from.rows, &chunk.on.x[0], None)?;
    for (i, layer) in recorder.weights.layers.iter().enumerate() {
        chunk.layer(plan, i, layer)?;
    }
    Ok(chunk.on)
}

/// What the layers of a chunk share.
struct Chunk<'a> {
    recorder: &'a Recorder<'a>,
    mamba: &'a Mamba,
    on: PrefillScratch,
    segments: Segments,
    batch: &'a Buf<Batch>,
}

impl Chunk<'_> {
    /// Records layer `i`: norm, mixer and residual.
    fn layer(&self, plan: &mut Plan, i: usize, layer: &Layer) -> Result<()> {
        let Chunk { recorder, mamba, on, segments, batch } = self;
        let Recorder { config, variants, state, .. } = recorder;
        let product = (variants.prefill(), *batch);
        let store = (Prologue::None, Epilogue::Store);
        let layout = mamba.dbc_layout();
        let at = |name: &str| format!("layer.{i}.{name}");
        let (x, x_next) = (&on.x[i % 2], &on.x[(i + 1) % 2]);
        rms_norm::record(plan, &at("norm"), (x, &on.normed), &layer.norm, config.norm_eps, batch)?;
        layer.in_proj.record(plan, &at("in_proj"), (&on.normed, &on.xz), store, product)?;
        mamba.conv(state, i, layer).record(plan, &at("conv"), (&on.xz, &on.conv), batch)?;
        let slices = product.0.slices(plan.gpu().caps(), &layer.x_proj, layout.planes_in_dt(mamba.inner));
        let projected = on.projected(layout, slices);
        let sliced = (Prologue::None, Epilogue::Slices(slices));
        layer.x_proj.record(plan, &at("x_proj"), (&on.conv, &projected.planes), sliced, product)?;
        dbc_norm::record(plan, &at("dbc"), (&projected, &on.dbc), layout, mamba.inner_norm_eps())?;
        let softplus = (Prologue::None, Epilogue::Softplus(&layer.dt_bias));
        layer.dt_proj.record(plan, &at("dt_proj"), (&on.dbc, &on.dt), softplus, product)?;
        let operands = Operands { dt: &on.dt, x: &on.conv, xz: &on.xz, dbc: &on.dbc, y: &on.gated };
        let scan = Scan {
            a_skip: &layer.a_skip,
            inner: mamba.inner,
            layout,
            variant: variants.scan,
            over: Over::Slot { state: state.tensor(i, SSM), versions: VERSIONS },
        };
        scan.record(plan, &at("scan"), operands, segments, batch)?;
        let residual = (Prologue::None, Epilogue::Residual(x));
        layer.out_proj.record(plan, &at("out_proj"), (&on.gated, x_next), residual, product)
    }
}

impl Mamba {
    /// The convolution of a layer.
    pub(super) fn conv<'a>(&self, state: &'a StateBank, layer: usize, weights: &'a Layer) -> Conv<'a> {
        Conv {
            taps: &weights.conv_taps,
            state: state.tensor(layer, CONV),
            inner: self.inner,
            kernel: self.conv_kernel,
            versions: VERSIONS,
        }
    }
}
