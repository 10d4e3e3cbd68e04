//! `matvec`: products of a weight matrix with the rows of a decode step, bound by the bandwidth of the weights.

use super::unpack::codes_part;
use super::weights::Matrix;
use crate::format::WeightFormat;
use crate::gpu::{Binding, Caps, Count, KernelDef, ShaderPart, wgsl};
use crate::kernels::activation::{Order, int8};
use crate::kernels::batch::X_ROWS;
use crate::kernels::parts::{TEAM, X, file};
use crate::kernels::sizes::size;

/// Teams of a whole workgroup.
const WIDE_TEAM: ShaderPart =
    ShaderPart::Subgroups { with: wgsl!("lib/team_workgroup.wgsl"), without: wgsl!("lib/team_shared.wgsl") };
const WIDE_TOTALS: ShaderPart =
    ShaderPart::Subgroups { with: wgsl!("lib/totals_wide.wgsl"), without: wgsl!("lib/totals_shared.wgsl") };
const TEAM_TOTALS: ShaderPart =
    ShaderPart::Subgroups { with: wgsl!("lib/totals_team.wgsl"), without: wgsl!("lib/totals_shared.wgsl") };
const SHARED_SCALES: ShaderPart =
    ShaderPart::Subgroups { with: wgsl!("lib/scales_shared.wgsl"), without: wgsl!("lib/scales_alone.wgsl") };
const SQUARES: ShaderPart =
    ShaderPart::Subgroups { with: wgsl!("lib/squares_subgroup.wgsl"), without: wgsl!("lib/squares_shared.wgsl") };

/// How the work is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatvecVariant {
    /// Lanes of a workgroup.
    pub lanes: u32,
    /// Rows of y per workgroup.
    pub rows: u32,
    /// Rows of y that a team of lanes makes at a time: 1, 2, 4 or 8.
    pub team_rows: u32,
    /// Rows of y per partial sum of squares for the next norm, the same for any `x_rows`. An int8 group if the next product's
    /// input is packed; a workgroup then makes whole groups.
    pub square_rows: u32,
    /// Units of each row that a lane has in flight: 1, 2 or 4.
    pub flight: u32,
    /// The whole workgroup is one team; else each subgroup is one.
    pub wide: bool,
    /// The number of units in a row is a constant of the module, so that a GPU's driver keeps more loads in flight.
    pub fixed: bool,
    /// Input rows that reuse one weight load: 1, 2, 4 or 8.
    pub x_rows: u32,
    /// x is int8, multiplied with codes by integer products: fast arithmetic.
    pub int8: bool,
}

/// What a kernel's module depends on besides its variant and epilogue.
pub(super) struct Input {
    pub(super) format: WeightFormat,
    /// Values in a row of W.
    pub(super) columns: usize,
    /// Partial sums of squares of x, if it is normed.
    pub(super) squares: Option<usize>,
}

/// The largest power of two that is not above `n`.
fn power_below(n: u32) -> u32 {
    1 << n.max(1).ilog2()
}

impl MatvecVariant {
    /// Each subgroup is a team.
    fn subgroups(caps: &Caps, lanes: u32, team_rows: u32, flight: u32) -> Self {
        let rows = lanes / caps.subgroup_min.clamp(1, lanes) * team_rows;
        MatvecVariant { lanes, rows, team_rows, square_rows: team_rows.min(2), flight, fixed: true, ..Self::portable() }
    }

    /// The workgroup is one team.
    fn workgroup(lanes: u32, team_rows: u32, flight: u32) -> Self {
        let rows = team_rows;
        MatvecVariant {
            lanes,
            rows,
            team_rows,
            square_rows: rows.min(2),
            flight,
            wide: true,
            fixed: true,
            ..Self::portable()
        }
    }

    /// The variant for an adapter and a matrix.
    pub fn of(caps: &Caps, matrix: &Matrix) -> Self {
        match (caps.cpu, caps.subgroups) {
            // A CPU runs a workgroup on one thread: small workgroups, no barriers. Loads of x cost as much as loads of W, so
            // eight rows share them.
            (true, true) => MatvecVariant { lanes: (2 * caps.subgroup_min).min(64), team_rows: 8, ..Self::portable() },
            (false, true) => Self::of_gpu(caps, matrix),
            (_, false) => MatvecVariant { fixed: !caps.cpu, ..Self::portable() },
        }
    }

    /// A variant that runs on any adapter.
    fn portable() -> Self {
        MatvecVariant {
            lanes: 64,
            rows: 16,
            team_rows: 4,
            square_rows: 4,
            flight: 1,
            wide: false,
            fixed: false,
            x_rows: 1,
            int8: false,
        }
    }

    /// This variant with x as int8, if the format's values are multiples of codes. With x smaller in the caches, and integer
    /// products, subgroups are the best teams.
    pub(in crate::kernels) fn with_int8(self, caps: &Caps, format: WeightFormat) -> Self {
        match codes_part(format) {
            None => self,
            Some(_) if self.fixed => MatvecVariant { int8: true, ..Self::subgroups(caps, 256, 2, 2) },
            Some(_) => MatvecVariant { int8: true, ..self },
        }
    }

    /// This variant with workgroups that pack their output in groups: on a GPU one group of rows, up to one subgroup per row.
    pub(in crate::kernels) fn in_groups(self, caps: &Caps) -> Self {
        let group = size(int8::GROUP);
        if !self.fixed {
            return MatvecVariant { rows: self.rows.next_multiple_of(group), square_rows: group, ..self };
        }
        let most = power_below(caps.max_lanes.min(1024));
        let lanes = (group * caps.subgroup_min).min(most).max(caps.subgroup_min);
        let team_rows = (group * caps.subgroup_min / lanes).min(8);
        let int8 = self.int8;
        MatvecVariant {
            rows: group,
            square_rows: group,
            int8,
            ..Self::subgroups(caps, lanes, team_rows, 4 / team_rows.min(4))
        }
    }

    /// Whether it packs its output in groups.
    pub(in crate::kernels) fn packs(self) -> bool {
        self.square_rows == size(int8::GROUP)
    }

    /// The order in which it reads x.
    pub(super) fn order(self, format: WeightFormat) -> Order {
        match (self.int8, format.unit_values()) {
            (true, _) => Order::Int8,
            (false, 32) => Order::ByQuads,
            _ => Order::Plain,
        }
    }

    /// The fastest variants measured on an H200, whose subgroups have 32 lanes: enough workgroups to fill a large GPU several
    /// times, few rows per team, and a few units of each row in flight.
    fn of_gpu(caps: &Caps, matrix: &Matrix) -> Self {
        let units = size(matrix.format.row_units(matrix.columns));
        // A workgroup as one team, whose lanes have at least one unit of each row.
        let wide = |lanes: u32, team_rows| {
            let lanes = lanes.min(power_below(units)).clamp(caps.subgroup_max, caps.max_lanes.max(caps.subgroup_max));
            Self::workgroup(lanes, team_rows, power_below(units / lanes).min(4))
        };
        let bits = matrix.format.bits();
        let minimum = matches!(matrix.format, WeightFormat::Q4K | WeightFormat::Q5K);
        match (matrix.format.is_plain(), matrix.rows) {
            // Few rows fill a GPU only with many lanes each.
            (true, ..1024) => wide(512, 2),
            (true, 1024..8192) => wide(128, 4),
            (true, 8192..32768) => Self::subgroups(caps, 128, 4, 2),
            (false, ..1024) => wide(256, 1),
            (false, 1024..8192) if bits > 8.0 => wide(256, 2),
            (false, 1024..8192) => wide(128, 2),
            (false, 8192..32768) if bits > 6.0 => wide(128, 4),
            (false, 8192..32768) if minimum => Self::subgroups(caps, 256, 4, 2),
            // If both kinds of teams are equally fast, subgroups: they are better with several rows of x.
            (true, _) | (false, 8192..32768) => Self::subgroups(caps, 256, 2, 2),
            (false, _) => Self::subgroups(caps, 128, 2, 2),
        }
    }

    /// The kinds of variants that any adapter gets and this one can run. The first is this adapter's own, if it is a CPU.
    pub fn all(caps: &Caps) -> Vec<Self> {
        let mut variants = vec![
            Self::portable(),
            Self::subgroups(caps, 128, 2, 2),
            Self::workgroup(64, 4, 2),
            Self::subgroups(caps, 64, 1, 4),
            MatvecVariant { fixed: false, ..Self::subgroups(caps, 256, 4, 1) },
            Self::workgroup(256, 2, 4),
            Self::workgroup(512, 1, 2),
        ];
        if caps.cpu {
            // Its driver unrolls loops with constant bounds and takes minutes to compile them: one variant of each kind of team
            // is enough to test those bounds.
            variants.iter_mut().skip(3).for_each(|variant| variant.fixed = false);
        }
        if caps.subgroups {
            let cpu = Caps { cpu: true, ..caps.clone() };
            variants.insert(0, Self::of(&cpu, &Matrix { rows: 1, columns: 1, format: WeightFormat::F32 }));
        }
        variants.retain(|variant| variant.runs_on(caps));
        variants.dedup();
        variants
    }

    /// The variants of fast arithmetic that any adapter gets and this one can run.
    pub fn all_fast(caps: &Caps, format: WeightFormat) -> Vec<Self> {
        let mut variants: Vec<Self> =
            Self::all(caps).into_iter().take(3).map(|variant| variant.with_int8(caps, format)).collect();
        variants.extend(variants.clone().into_iter().map(|variant| variant.in_groups(caps)));
        variants.retain(|variant| variant.runs_on(caps) && (variant.int8 || variant.packs()));
        variants.dedup();
        variants
    }

    /// Variants worth timing for a matrix on this adapter: this one, then others with the same input and output layouts.
    pub fn candidates(self, caps: &Caps, matrix: &Matrix) -> Vec<Self> {
        if self.packs() {
            return vec![self];
        }
        let mut variants = vec![self];
        if caps.cpu || !caps.subgroups {
            // Each takes seconds to compile and gains little.
            variants.extend(Self::all(caps).into_iter().take(3));
        } else {
            let units = size(matrix.format.row_units(matrix.columns));
            for team_rows in [1, 2, 4] {
                variants.extend(
                    [(128, 1), (128, 2), (128, 4), (256, 2)].map(|(l, f)| Self::subgroups(caps, l, team_rows, f)),
                );
                let lanes = [32, 64, 128, 256, 512].into_iter().filter(|l| *l >= caps.subgroup_max && *l <= units);
                variants.extend(lanes.map(|l| Self::workgroup(l, team_rows, power_below(units / l).min(4))));
            }
        }
        variants.retain(|variant| variant.runs_on(caps));
        variants.iter_mut().for_each(|variant| variant.int8 = self.int8);
        let mut unlike: Vec<MatvecVariant> = Vec::new();
        for variant in variants {
            if !unlike.contains(&variant) {
                unlike.push(variant);
            }
        }
        unlike
    }

    fn runs_on(self, caps: &Caps) -> bool {
        self.lanes <= caps.max_lanes
    }

    /// This variant for `x_rows` rows of x at a time. Teams keep their size, so that each row is summed in the same order, and so
    /// does `square_rows`.
    fn with_x_rows(self, x_rows: u32, format: WeightFormat) -> Self {
        let variant = self.sharing(x_rows, format);
        if !variant.packs() || x_rows == 1 {
            return variant;
        }
        // Sums of several rows of x need registers; fewer lanes have more each.
        let lanes = if variant.fixed { variant.lanes.min(256) } else { variant.lanes };
        MatvecVariant { lanes, rows: size(int8::GROUP), ..variant }
    }

    fn sharing(self, x_rows: u32, format: WeightFormat) -> Self {
        match x_rows {
            1 => self,
            // Only CPUs have small workgroups: their sums spill to the cache in any case. More rows share the norm's scales.
            _ if self.lanes < 64 => MatvecVariant { x_rows, rows: self.rows.max(32), team_rows: 8, ..self },
            // Rows of W share each load of x, as far as registers allow.
            _ if self.fixed => {
                let team_rows = if x_rows == 8 && format.is_plain() { 4 } else { 2 };
                MatvecVariant { x_rows, flight: 1, rows: self.rows / self.team_rows * team_rows, team_rows, ..self }
            }
            _ => MatvecVariant { x_rows, flight: 1, ..self },
        }
    }

    /// The variants for runs of few and of many rows, each with the most rows that it is for.
    pub(super) fn by_rows(self, format: WeightFormat) -> impl Iterator<Item = (u32, Self)> {
        X_ROWS.into_iter().map(move |x_rows| (x_rows, self.with_x_rows(x_rows, format)))
    }

    /// The kernel for an input.
    pub(super) fn def(self, mut parts: Vec<ShaderPart>, bindings: Vec<Binding>, input: Input) -> KernelDef {
        let Input { format, columns, squares } = input;
        let units = format.row_units(columns);
        match codes_part(format).filter(|_| self.int8) {
            Some(codes) => parts.extend([file(codes), file(wgsl!("lib/unit_x_int8.wgsl"))]),
            None => parts.extend([X, file(wgsl!("lib/unit_x.wgsl"))]),
        }
        parts.push(file(if self.packs() { wgsl!("lib/int8_pack.wgsl") } else { wgsl!("lib/groups_none.wgsl") }));
        parts.extend([file(wgsl!("lib/x_rows.wgsl")), if self.wide { WIDE_TEAM } else { TEAM }]);
        if squares.is_some() {
            // The two teams of a CPU compute the scales faster than they would wait for each other.
            let scales = if self.lanes < 64 { file(wgsl!("lib/scales_alone.wgsl")) } else { SHARED_SCALES };
            parts.extend([file(wgsl!("lib/prologue_norm.wgsl")), scales]);
        } else {
            parts.push(file(wgsl!("lib/prologue_none.wgsl")));
        }
        parts.extend([
            file(match self.team_rows {
                1 => wgsl!("lib/rows_1.wgsl"),
                2 => wgsl!("lib/rows_2.wgsl"),
                4 => wgsl!("lib/rows_4.wgsl"),
                _ => wgsl!("lib/rows_8.wgsl"),
            }),
            file(match (self.x_rows, self.int8) {
                (1, _) => wgsl!("lib/add_one.wgsl"),
                (_, true) => wgsl!("lib/add_units.wgsl"),
                (_, false) => wgsl!("lib/add_quads.wgsl"),
            }),
            if self.wide { WIDE_TOTALS } else { TEAM_TOTALS },
            SQUARES,
            file(wgsl!("matvec.wgsl")),
        ]);
        let mut def = KernelDef::new("matvec", parts, bindings)
            .consts(&[
                ("UNITS", if self.fixed { size(units) } else { 0 }),
                ("SQUARES_IN", if self.fixed { squares.map_or(0, size) } else { 0 }),
                ("FLIGHT", self.flight),
                ("X_ROWS", self.x_rows),
                ("MAX_X_ROWS", X_ROWS[X_ROWS.len() - 1]),
                ("SQUARE_ROWS", self.square_rows),
                ("LANES", self.lanes),
            ])
            .overrides(&[("WG", self.lanes), ("ROWS", self.rows)]);
        if self.packs() {
            def.consts.push(("KEPT", self.rows * self.x_rows));
        }
        def
    }

    pub(super) fn grid(self, rows: usize) -> [Count; 2] {
        [Count::of(rows, self.rows), Count::Rows(self.x_rows)]
    }
}

impl std::fmt::Display for MatvecVariant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let MatvecVariant { lanes, rows, team_rows, square_rows: _, flight, wide, fixed, x_rows, int8 } = self;
        let team = if *wide { " wide" } else { "" };
        let bounds = if *fixed { "" } else { ", any length" };
        let x = if *int8 { ", int8 x" } else { "" };
        let y = if self.packs() { ", int8 y" } else { "" };
        write!(f, "{lanes} lanes {rows} rows by {team_rows}{team}, {flight} in flight{bounds}{x}{y}")?;
        if *x_rows == 1 { Ok(()) } else { write!(f, ", {x_rows} rows of x") }
    }
}
