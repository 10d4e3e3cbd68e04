//! The order of a Mamba's kernels in a decode step.

use super::scratch::DecodeScratch;
use super::sizes;
use super::state::SSM;
use super::weights::Layer;
use crate::error::Result;
use crate::gpu::{Buf, Plan};
use crate::kernels::linear::{Epilogue, Linear, NextNorm, Product, Prologue};
use crate::kernels::ssm_step::{SsmStep, StepOperands};
use crate::kernels::variants::Variants;
use crate::kernels::{Batch, embed};
use crate::model::plans::{Lookup, Recorder};
use crate::model::state::VERSIONS;

/// Records embedding, layers and head for one token of each row: four dispatches a layer, each of which needs the one before.
/// The logits go to the slots' state.
pub(in crate::model) fn decode(
    recorder: &Recorder<'_>,
    plan: &mut Plan,
    from: &Lookup<'_>,
    batch: &Buf<Batch>,
    slots: usize,
) -> Result<()> {
    let Recorder { config, weights, variants, state, table, .. } = *recorder;
    let mamba = sizes(config);
    let of_layers = weights.layers.iter().map(|layer| square_parts(variants, layer));
    let on = DecodeScratch::new(recorder.gpu, config, slots, of_layers.max().unwrap_or(1))?;
    let product = |name: &str, matrix: &Linear| (variants.decode(name, matrix), batch);
    let order = |name: &str, matrix: &Linear| variants.decode(name, matrix).order(matrix);
    let normed = |parts| Prologue::Norm { squares: &on.squares, parts, eps: config.norm_eps };
    // The kernel before a norm also applies its weights and sums the squares, in the order of the product that reads them.
    let of_layer = |layer: usize| match weights.layers.get(layer) {
        Some(layer) => (&layer.norm, order("in_proj", &layer.in_proj)),
        None => (&weights.norm_f, order("head", &weights.head)),
    };
    let normed_of = |layer: usize| on.normed.ordered(config.hidden, of_layer(layer).1);
    let mut normed_x = normed_of(0);
    let next = NextNorm { weight: of_layer(0).0, normed: &normed_x, squares: &on.squares };
    embed::record(plan, from.table, from.rows, &on.x[0], Some(next))?;
    let mut parts = 1;
    for (i, layer) in weights.layers.iter().enumerate() {
        let at = |name: &str| format!("layer.{i}.{name}");
        let (x, x_next) = (&on.x[i % 2], &on.x[(i + 1) % 2]);
        let xg = on.xg.ordered(on.xg.width, order("x_proj", &layer.x_proj));
        let mixer = (normed(parts), Epilogue::Mixer(mamba.conv(state, i, layer), table));
        layer.in_proj.record(plan, &at("in_proj"), (&normed_x, &xg), mixer, product("in_proj", &layer.in_proj))?;
        let store = (Prologue::None, Epilogue::Store);
        layer.x_proj.record(plan, &at("x_proj"), (&xg, &on.projected), store, product("x_proj", &layer.x_proj))?;
        let step = SsmStep {
            dt_proj: &layer.dt_proj,
            dt_bias: &layer.dt_bias,
            a_skip: &layer.a_skip,
            state: state.tensor(i, SSM),
            layout: mamba.dbc_layout(),
            eps: mamba.inner_norm_eps(),
            versions: VERSIONS,
        };
        let gated = on.gated.ordered(mamba.inner, order("out_proj", &layer.out_proj));
        let operands = StepOperands { projected: &on.projected, xg: &xg, y: &gated };
        step.record(plan, &at("ssm_step"), operands, (variants.step, batch), table)?;
        normed_x = normed_of(i + 1);
        let next = NextNorm { weight: of_layer(i + 1).0, normed: &normed_x, squares: &on.squares };
        let residual = (Prologue::None, Epilogue::ResidualNorm(x, next));
        let out_proj = product("out_proj", &layer.out_proj);
        layer.out_proj.record(plan, &at("out_proj"), (&gated, x_next), residual, out_proj)?;
        parts = square_parts(variants, layer);
    }
    let head = &weights.head;
    let then = (normed(parts), Epilogue::Logits(table, VERSIONS));
    head.record(plan, "logits", (&normed_x, &state.logits), then, product("head", head))
}

/// The number of partial sums of squares that a layer's out_proj writes for a row.
fn square_parts(variants: &Variants, layer: &Layer) -> usize {
    let out_proj = &layer.out_proj;
    match variants.decode("out_proj", out_proj) {
        Product::Matvec(form) => out_proj.square_parts(form.square_rows as usize),
        Product::Matmul(_) => unreachable!("a decode step multiplies by matvec"),
    }
}
