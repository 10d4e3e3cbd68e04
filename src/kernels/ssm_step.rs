//! One token of the selective scan per decoding row: the norms of dt, B and C, dt_proj with softplus, the step of the
//! state, the skip D and the gate, in one kernel. The equations are those of [`super::scan`].

use super::activation::{Activation, Order, int8};
use super::batch::{Batch, RowEntry, X_ROWS};
use super::case::{Case, Io, Tolerance, wide};
use super::dbc_norm::{self, DbcLayout};
use super::linear::{self, Linear};
use super::maths::softplus;
use super::parts::{BATCH, MATH, PLACED, ROW_ENTRY, TEAM, file};
use super::scan::{self, CpuOperands};
use super::sizes::{floats, size};
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Binding, Buf, Caps, Cost, Count, KernelChoice, KernelDef, Plan, ShaderPart, Usage, params, wgsl};

params! {
    /// Parameters of one shard of dt_proj.
    pub struct Params {
        /// Channels, D.
        inner: u32,
        /// Channel that this shard of dt_proj begins with.
        first: u32,
        /// Channels of this shard.
        rows: u32,
        /// Units in a row of dt_proj.
        units: u32,
        /// Width of dt before dt_proj, R.
        dt_rank: u32,
        /// Floats from one row of projected to the next.
        p_stride: u32,
        /// Floats from one row of xg to the next.
        xg_stride: u32,
        /// Floats from one row of y to the next.
        y_stride: u32,
        /// Versions of a slot's state.
        versions: u32,
        /// 1: the three norms of Falcon Mamba.
        normed: u32,
        /// Added to each mean square.
        eps: f32,
        /// Offset of the gate in a row of xg.
        gate_first: u32,
        /// Order of x, see [`super::Order::placing`].
        x_shift: u32,
        /// Order of y.
        y_shift: u32,
        /// Units in a row of either.
        order_units: u32,
    }
}

/// How the work is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepVariant {
    /// Lanes of a workgroup.
    pub lanes: u32,
    /// Four lanes share a channel; else each has one.
    pub quad: bool,
    /// Row sizes are constants of the module, so that a GPU's driver keeps more loads in flight.
    pub fixed: bool,
    /// Rows that a workgroup takes one after the other.
    pub rows: u32,
}

impl StepVariant {
    /// The variant for an adapter.
    pub fn of(caps: &Caps) -> Self {
        match (caps.cpu, caps.subgroups) {
            (true, true) => StepVariant { lanes: (4 * caps.subgroup_min).min(64), quad: false, fixed: false, rows: 1 },
            // Four lanes read 64 adjacent bytes of a row of dt_proj; one lane would use only part of a cache line.
            (false, true) => StepVariant { lanes: 128, quad: caps.subgroup_min >= 4, fixed: true, rows: 1 },
            (_, false) => StepVariant { lanes: 64, quad: false, fixed: !caps.cpu, rows: 1 },
        }
    }

    /// All variants that any adapter gets and this one can run.
    pub fn all(caps: &Caps) -> Vec<Self> {
        let mut variants: Vec<StepVariant> =
            [true, false].map(|cpu| StepVariant::of(&Caps { cpu, ..caps.clone() })).to_vec();
        variants.dedup();
        variants
    }

    fn channels(self) -> u32 {
        self.lanes / self.channel_lanes()
    }

    fn channel_lanes(self) -> u32 {
        if self.quad { 4 } else { 1 }
    }

    /// This variant with whole int8 groups of channels per workgroup.
    fn in_groups(self) -> Self {
        StepVariant { lanes: self.channels().next_multiple_of(size(int8::GROUP)) * self.channel_lanes(), ..self }
    }
}

impl std::fmt::Display for StepVariant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let StepVariant { lanes, quad, fixed: _, rows } = self;
        write!(f, "{lanes} lanes {} a channel", if *quad { 4 } else { 1 })?;
        if *rows == 1 { Ok(()) } else { write!(f, " {rows} rows") }
    }
}

fn def(variant: StepVariant, (format, y): (WeightFormat, Order), DbcLayout { dt_rank, state }: DbcLayout) -> KernelDef {
    let bindings = vec![
        Params::binding("params"),
        Batch::binding("batch"),
        Binding::read("x"),
        Binding::read("rows").of(RowEntry::LAYOUT),
        Binding::read("xg"),
        Binding::read("dt_bias"),
        Binding::read("a_skip"),
        Binding::write("state"),
        Binding::write("y"),
    ];
    let mut parts = linear::weights_parts(format);
    parts.extend(linear::dot_parts(format));
    parts.extend([
        MATH,
        BATCH,
        PLACED,
        file(wgsl!("lib/x_words.wgsl")),
        ROW_ENTRY,
        file(wgsl!("lib/recurrence.wgsl")),
        TEAM,
        ShaderPart::File(if variant.quad { wgsl!("lib/channel_quad.wgsl") } else { wgsl!("lib/channel_alone.wgsl") }),
    ]);
    match y {
        Order::Int8 => parts.extend([wgsl!("lib/int8_pack.wgsl"), wgsl!("lib/step_y_int8.wgsl")].map(file)),
        Order::Plain | Order::ByQuads => parts.push(file(wgsl!("lib/step_y.wgsl"))),
    }
    parts.push(file(wgsl!("ssm_step.wgsl")));
    let mut def = KernelDef::new("ssm_step", parts, bindings)
        .consts(&[
            ("N", size(state)),
            ("ROWS", variant.rows),
            ("UNITS", if variant.fixed { size(format.row_units(dt_rank)) } else { 0 }),
            ("DT_RANK", if variant.fixed { size(dt_rank) } else { 0 }),
        ])
        .overrides(&[("WG", variant.lanes)]);
    if y == Order::Int8 {
        def.consts.push(("KEPT", variant.channels()));
    }
    def.weights = linear::weights_bindings();
    def
}

/// Activations of a step.
#[derive(Clone, Copy)]
pub struct StepOperands<'a> {
    /// `[rows, R + 2N]`: dt | B | C.
    pub projected: &'a Activation,
    /// `[rows, x | gate]`, both after SiLU.
    pub xg: &'a Activation,
    /// `[rows, D]`, gated.
    pub y: &'a Activation,
}

/// Weights and state of one layer.
pub struct SsmStep<'a> {
    /// `[D, R]`.
    pub dt_proj: &'a Linear,
    /// `[D]`.
    pub dt_bias: &'a Buf<f32>,
    /// `[N + 1, D]`: A, then the skip D, as [`scan::pack`] returns them.
    pub a_skip: &'a Buf<f32>,
    /// `[slot][version][N][D]`.
    pub state: &'a Buf<f32>,
    /// Sizes of dt, B and C.
    pub layout: DbcLayout,
    /// Epsilon of the norms of dt, B and C, if the model has them.
    pub eps: Option<f32>,
    /// Versions of a slot's state.
    pub versions: usize,
}

impl SsmStep<'_> {
    /// Records y `[rows, D]` from projected `[rows, R + 2N]` and in_proj's output xg `[rows, x | gate]`. x and y are in the order of
    /// the products that read them.
    pub fn record(
        &self,
        plan: &mut Plan,
        label: &str,
        on: StepOperands<'_>,
        (variant, batch): (StepVariant, &Buf<Batch>),
        rows: &Buf<RowEntry>,
    ) -> Result<()> {
        let StepOperands { projected, xg, y } = on;
        let DbcLayout { dt_rank, state } = self.layout;
        let inner = self.dt_proj.rows();
        let format = self.dt_proj.format();
        let packed = y.order == Order::Int8;
        assert!(!packed || self.dt_proj.cut_by_groups(), "{label}: a shard begins within a group");
        let variant = if packed { variant.in_groups() } else { variant };
        for shard in self.dt_proj.shards() {
            let params = Params {
                inner: size(inner),
                first: size(shard.first),
                rows: size(shard.rows),
                units: size(format.row_units(dt_rank)),
                dt_rank: size(dt_rank),
                p_stride: size(projected.stride),
                xg_stride: size(xg.stride),
                y_stride: size(y.stride),
                versions: size(self.versions),
                normed: self.eps.is_some().into(),
                eps: self.eps.unwrap_or(0.0),
                gate_first: size(linear::gate_first(inner)),
                x_shift: xg.order.placing(inner)[0],
                y_shift: y.order.placing(inner)[0],
                order_units: Order::ByQuads.placing(inner)[1],
            };
            let params = plan.gpu().upload("ssm_step params", &[params], Usage::Uniform)?;
            let bound = [
                ("params", params.bind()),
                ("batch", batch.bind()),
                ("rows", rows.bind()),
                ("x", projected.buf.bind()),
                ("xg", xg.buf.bind()),
                ("dt_bias", self.dt_bias.bind()),
                ("a_skip", self.a_skip.bind()),
                ("state", self.state.bind()),
                ("y", y.buf.bind()),
                ("weight", shard.weight.bind()),
            ];
            let states = shard.rows * state;
            let cost = Cost {
                macs: (shard.rows * dt_rank + 2 * states) as u64,
                bytes: (shard.rows * format.device_row_bytes(dt_rank) + floats(states + 2 * shard.rows)) as u64,
                row_bytes: floats(dt_rank + 2 * state + 3 * shard.rows + 2 * states) as u64,
            };
            let choices = X_ROWS.map(|x_rows| {
                // A GPU has enough workgroups for one row each, and its caches hold dt_proj.
                let in_turn = if variant.fixed { 1 } else { x_rows };
                let grid = [Count::of(shard.rows, variant.channels()), Count::Rows(in_turn)];
                let def = def(StepVariant { rows: in_turn, ..variant }, (format, y.order), self.layout);
                KernelChoice { most_rows: x_rows, def, grid, passes: Count::Rows(x_rows) }
            });
            plan.dispatch_by_rows(choices.to_vec(), label, &bound, cost)?;
        }
        Ok(())
    }
}

pub(super) fn defs(caps: &Caps) -> Vec<KernelDef> {
    let layouts = [DbcLayout { dt_rank: 9, state: 1 }, DbcLayout { dt_rank: 256, state: 16 }];
    let of_format = |variant: StepVariant, format| {
        let plain = layouts.map(|layout| def(variant, (format, Order::Plain), layout));
        plain.into_iter().chain([def(variant.in_groups(), (format, Order::Int8), layouts[1])])
    };
    let of_variant = |variant| WeightFormat::ALL.into_iter().flat_map(move |format| of_format(variant, format));
    let of_rows = |variant| [1, 8].map(|rows| StepVariant { rows, ..variant });
    StepVariant::all(caps).into_iter().flat_map(of_rows).flat_map(of_variant).collect()
}

/// As [`scan`]'s, for one token after a product of R values.
const TOLERANCE: Tolerance = Tolerance { nmse: 1e-10, abs: 1e-4, rel: 1e-5 };

pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    for variant in StepVariant::all(caps) {
        for format in WeightFormat::ALL {
            let of_values = [
                (1, 1, DbcLayout { dt_rank: 1, state: 1 }, Some(1e-6)),
                (1, 70, DbcLayout { dt_rank: 12, state: 16 }, Some(1e-6)),
                (3, 40, DbcLayout { dt_rank: 33, state: 10 }, Some(1e-5)),
                (2, 64, DbcLayout { dt_rank: 48, state: 32 }, None),
                (11, 40, DbcLayout { dt_rank: 20, state: 9 }, Some(1e-5)),
            ];
            let of_codes = [(3, 40, DbcLayout { dt_rank: 256, state: 10 }, Some(1e-5))];
            for &(rows, inner, layout, eps) in if format.is_plain() { &of_values[..] } else { &of_codes } {
                let DbcLayout { dt_rank, state } = layout;
                let shape = format!("{variant} {} {rows}x{inner}x{state} rank {dt_rank} eps {eps:?}", format.name());
                let build = move |io: &mut Io| build(io, (variant, format), (rows, inner), (layout, false), eps);
                cases.push(Case::new("ssm_step", shape, build));
            }
            // Packing y does not depend on the format.
            if matches!(format, WeightFormat::F32 | WeightFormat::Q4_0) {
                let layout = DbcLayout { dt_rank: 12, state: 16 };
                for (rows, inner) in [(1, 1), (1, 70), (11, 160)] {
                    let shape = format!("{variant} {} {rows}x{inner}, y as int8", format.name());
                    let build =
                        move |io: &mut Io| build(io, (variant, format), (rows, inner), (layout, true), Some(1e-5));
                    cases.push(Case::new("ssm_step", shape, build));
                }
            }
        }
    }
    cases
}

fn build(
    io: &mut Io,
    (variant, format): (StepVariant, WeightFormat),
    (rows, inner): (usize, usize),
    (layout, packed): (DbcLayout, bool),
    eps: Option<f32>,
) -> Result<()> {
    let DbcLayout { dt_rank, state } = layout;
    let versions = 2;
    let random = &mut io.random;
    let bytes = format.encode(&random.uniforms(inner * dt_rank, -1.0, 1.0), dt_rank);
    let shape = vec![inner, dt_rank];
    let tensor = Tensor::of_blocks("W", "case", format, &shape, &bytes);
    // Time steps over many magnitudes, decays from slow to underflow.
    let dt_bias = random.uniforms(inner, -9.0, 3.0);
    let a_log = random.uniforms(inner * state, -3.0, 3.5);
    let a_skip = scan::pack(&a_log, &random.uniforms(inner, -1.0, 1.0));
    let projected = random.uniforms(rows * (dt_rank + 2 * state), -1.0, 1.0);
    let xg = random.uniforms(rows * 2 * inner, -2.0, 2.0);
    let before = random.uniforms(rows * versions * inner * state, -1.0, 1.0);

    // Row r is slot r, its version r to version r + 1.
    let mut after = wide(&before);
    let [dt, b, c] = dbc_norm::cpu(&wide(&projected), layout, eps);
    let dt = linear::cpu(&dt, &tensor.to_f32(), dt_rank);
    let mut y = Vec::new();
    for (r, xg) in wide(&xg).chunks_exact(2 * inner).enumerate() {
        let dt = dt[r * inner..][..inner].iter().zip(&dt_bias).map(|(dt, bias)| softplus(dt + f64::from(*bias)));
        let (x, gate) = xg.split_at(inner);
        let of_states = r * state..(r + 1) * state;
        let on = CpuOperands {
            dt: &dt.collect::<Vec<_>>(),
            x,
            z: &vec![0.0; inner],
            b: &b[of_states.clone()],
            c: &c[of_states],
            a_skip: &a_skip,
        };
        let at = |version: usize| (r * versions + version % versions) * inner * state;
        let mut h = wide(&before[at(r)..][..inner * state]);
        let (readout, _) = scan::cpu(&on, &mut h, inner);
        let skip = a_skip[state * inner..].iter().zip(x).map(|(skip, x)| f64::from(*skip) * x);
        y.extend(readout.iter().zip(skip).zip(gate).map(|((readout, skip), gate)| (readout + skip) * gate));
        after[at(r + 1)..][..inner * state].copy_from_slice(&h);
    }

    io.rows = rows;
    let dt_proj = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
    let projected = io.rows_in("projected", &projected, dt_rank + 2 * state)?;
    // The consumers of x and y decide their order; the gate follows x.
    let [x_order, y_order] = [0, 1].map(|_| if io.random.below(2) == 0 { Order::Plain } else { Order::ByQuads });
    let gate = linear::gate_first(inner);
    let placed: Vec<f32> = xg
        .chunks_exact(2 * inner)
        .flat_map(|xg| {
            let mut row = vec![0.0; 2 * gate];
            for (d, value) in xg[..inner].iter().enumerate() {
                row[x_order.place(d, inner)] = *value;
            }
            row[gate..][..inner].copy_from_slice(&xg[inner..]);
            row
        })
        .collect();
    let xg = io.rows_in("xg", &placed, 2 * gate)?.ordered(2 * gate, x_order);
    let y = match packed {
        true => io.rows_out_int8("y", &y, inner)?,
        false => io.rows_out_order("y", &y, inner, TOLERANCE, y_order)?,
    };
    let state_buf = io.in_out("state", &before, &after, TOLERANCE)?;
    let (dt_bias, a_skip) = (io.input("dt_bias", &dt_bias)?, io.input("a_skip", &a_skip)?);
    let table: Vec<RowEntry> =
        (0..size(rows)).map(|r| RowEntry { slot: r, version: r, ..Default::default() }).collect();
    let table = io.input("rows", &table)?;
    let step =
        SsmStep { dt_proj: &dt_proj, dt_bias: &dt_bias, a_skip: &a_skip, state: &state_buf, layout, eps, versions };
    let batch = io.uniform(Batch { rows: size(rows), ..Default::default() })?;
    let on = StepOperands { projected: &projected, xg: &xg, y: &y };
    step.record(&mut io.plan, "y", on, (variant, &batch), &table)
}
