//! `matvec`: products of a weight matrix with the rows of a decode step, bound by the bandwidth of the weights.

use super::unpack::codes_part;
use super::weights::Matrix;
use crate::format::WeightFormat;
use crate::gpu::{Binding, Caps, Count, KernelDef, ShaderPart, wgsl};
use crate::kernels::activation::{Order, int8};
use crate::kernels::batch::X_ROWS;
use crate::kernels::parts::{TEAM, X, file};
use crate::kernels::sizes::size;

/// The whole workgroup sums a row.
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

/// How the work is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatvecVariant {
    /// Lanes of a workgroup.
    pub lanes: u32,
    /// Rows of y that a workgroup makes.
    pub rows: u32,
    /// Rows that a team of lanes makes at a time: 1, 2, 4 or 8.
    pub team_rows: u32,
    /// Rows whose squares are summed up before the next norm adds them: the same for any `x_rows`. Those of a group where
    /// what the next product reads is packed as int8; then a workgroup makes whole groups.
    pub square_rows: u32,
    /// Units of each row that a lane has on their way at a time: 1, 2 or 4.
    pub flight: u32,
    /// The whole workgroup is one team; else each subgroup is one.
    pub wide: bool,
    /// The units of a row are a constant of the module: a GPU's driver then keeps more loads on their way.
    pub fixed: bool,
    /// Input rows that reuse one weight load: 1, 2, 4 or 8.
    pub x_rows: u32,
    /// x is int8 and meets codes by integer products: fast arithmetic.
    pub int8: bool,
}

/// The largest power of two that is not above `n`.
fn power_below(n: u32) -> u32 {
    1 << n.max(1).ilog2()
}

impl MatvecVariant {
    /// Subgroups as teams, each with its rows.
    fn subgroups(caps: &Caps, lanes: u32, team_rows: u32, flight: u32) -> Self {
        let rows = lanes / caps.subgroup_min.clamp(1, lanes) * team_rows;
        MatvecVariant { lanes, rows, team_rows, square_rows: team_rows.min(2), flight, fixed: true, ..Self::portable() }
    }

    /// A workgroup as one team.
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

    /// What suits an adapter for a matrix.
    pub fn of(caps: &Caps, matrix: &Matrix) -> Self {
        match (caps.cpu, caps.subgroups) {
            // A CPU runs a workgroup on one thread: small ones, without barriers. Loads of x cost as much as loads of W,
            // so eight rows share them.
            (true, true) => MatvecVariant { lanes: (2 * caps.subgroup_min).min(64), team_rows: 8, ..Self::portable() },
            (false, true) => Self::of_gpu(caps, matrix),
            (_, false) => MatvecVariant { fixed: !caps.cpu, ..Self::portable() },
        }
    }

    /// What runs anywhere.
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

    /// This variant with an x of int8, where the format's values are multiples of codes. Half the bytes that an f32 x takes of the
    /// caches and integer products leave subgroups enough to do.
    pub(in crate::kernels) fn with_int8(self, caps: &Caps, format: WeightFormat) -> Self {
        match codes_part(format) {
            None => self,
            Some(_) if self.fixed => MatvecVariant { int8: true, ..Self::subgroups(caps, 256, 2, 2) },
            Some(_) => MatvecVariant { int8: true, ..self },
        }
    }

    /// This variant for a workgroup that packs what it makes by groups: on a GPU by as many subgroups as get along with a row each.
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

    /// Whether what it makes is packed by groups.
    pub(super) fn packs(self) -> bool {
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

    /// What was measured to be fastest on an H200, whose subgroups have 32 lanes. As many workgroups as fill a large GPU
    /// several times, few rows a team, and a few units of each on their way.
    fn of_gpu(caps: &Caps, matrix: &Matrix) -> Self {
        let units = size(matrix.format.row_units(matrix.columns));
        // Teams of a workgroup whose lanes have a unit of each row at least.
        let wide = |lanes: u32, team_rows| {
            let lanes = lanes.min(power_below(units)).clamp(caps.subgroup_max, caps.max_lanes.max(caps.subgroup_max));
            Self::workgroup(lanes, team_rows, power_below(units / lanes).min(4))
        };
        let bits = matrix.format.bits();
        let minimum = matches!(matrix.format, WeightFormat::Q4K | WeightFormat::Q5K);
        match (matrix.format.is_plain(), matrix.rows) {
            // Few rows fill a GPU only if each has many lanes.
            (true, ..1024) => wide(512, 2),
            (true, 1024..8192) => wide(128, 4),
            (true, 8192..32768) => Self::subgroups(caps, 128, 4, 2),
            (false, ..1024) => wide(256, 1),
            (false, 1024..8192) if bits > 8.0 => wide(256, 2),
            (false, 1024..8192) => wide(128, 2),
            (false, 8192..32768) if bits > 6.0 => wide(128, 4),
            (false, 8192..32768) if minimum => Self::subgroups(caps, 256, 4, 2),
            // Where several kinds of teams are as fast, subgroups: they suit several rows of x better.
            (true, _) | (false, 8192..32768) => Self::subgroups(caps, 256, 2, 2),
            (false, _) => Self::subgroups(caps, 128, 2, 2),
        }
    }

    /// Every variant that any adapter gets, as far as this one can run it, and some between. The first is this adapter's own, if it
    /// is a CPU.
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
            // Its driver takes minutes to compile loops that it unrolls: a variant of each kind of team shows that the bounds are right.
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

    /// The variants of fast arithmetic that any adapter gets, as far as this one can run them.
    pub fn all_fast(caps: &Caps, format: WeightFormat) -> Vec<Self> {
        let mut variants: Vec<Self> =
            Self::all(caps).into_iter().take(3).map(|variant| variant.with_int8(caps, format)).collect();
        variants.extend(variants.clone().into_iter().map(|variant| variant.in_groups(caps)));
        variants.retain(|variant| variant.runs_on(caps) && (variant.int8 || variant.packs()));
        variants.dedup();
        variants
    }

    /// Forms worth timing in place of one for a matrix on this adapter: that one, then others that read and leave the same.
    pub fn candidates(self, caps: &Caps, matrix: &Matrix) -> Vec<Self> {
        if self.packs() {
            return vec![self];
        }
        let mut variants = vec![self];
        if caps.cpu || !caps.subgroups {
            // Seconds to compile, and little to gain.
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
            // Small workgroups are a CPU's: it has no registers for the sums anyhow, and memory near by. More rows share the
            // scales of the norm.
            _ if self.lanes < 64 => MatvecVariant { x_rows, rows: self.rows.max(32), team_rows: 8, ..self },
            // Rows of W share what is loaded of x, as far as registers go.
            _ if self.fixed => {
                let team_rows = if x_rows == 8 && format.is_plain() { 4 } else { 2 };
                MatvecVariant { x_rows, flight: 1, rows: self.rows / self.team_rows * team_rows, team_rows, ..self }
            }
            _ => MatvecVariant { x_rows, flight: 1, ..self },
        }
    }

    /// The variants for runs of few rows and of many, with the most rows that each is for.
    pub(super) fn by_rows(self, format: WeightFormat) -> impl Iterator<Item = (u32, Self)> {
        X_ROWS.into_iter().map(move |x_rows| (x_rows, self.with_x_rows(x_rows, format)))
    }

    /// The kernel for a matrix of so many units a row, and a normed x with squares in so many parts.
    pub(super) fn def(
        self,
        mut parts: Vec<ShaderPart>,
        bindings: Vec<Binding>,
        (format, columns, squares): (WeightFormat, usize, Option<usize>),
    ) -> KernelDef {
        let units = format.row_units(columns);
        match codes_part(format).filter(|_| self.int8) {
            Some(codes) => parts.extend([file(codes), file(wgsl!("lib/unit_x_int8.wgsl"))]),
            None => parts.extend([X, file(wgsl!("lib/unit_x.wgsl"))]),
        }
        parts.push(file(if self.packs() { wgsl!("lib/int8_pack.wgsl") } else { wgsl!("lib/groups_none.wgsl") }));
        parts.extend([file(wgsl!("lib/x_rows.wgsl")), if self.wide { WIDE_TEAM } else { TEAM }]);
        if squares.is_some() {
            // Two teams, as a CPU has, take the scales sooner than they wait for each other.
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
