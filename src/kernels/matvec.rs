//! `matvec`: products of a weight matrix with the rows of a decode step, bound by the bandwidth of the weights.

use super::case::{Case, Io, wide};
use super::conv::{self, Conv};
use super::linear::Linear;
use super::product::{self, Epilogue, EpilogueKind, NextNorm, Product, Prologue, Shape, TOLERANCE};
use super::{Activation, Batch, COLUMNS, Order, Part, Row, TEAM, file, silu, size};
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Binding, Caps, Count, KernelDef, wgsl};

/// The whole workgroup sums a row.
const WIDE_TEAM: Part =
    Part::Subgroups { with: wgsl!("lib/team_workgroup.wgsl"), without: wgsl!("lib/team_shared.wgsl") };
const WIDE_TOTALS: Part =
    Part::Subgroups { with: wgsl!("lib/totals_wide.wgsl"), without: wgsl!("lib/totals_team.wgsl") };
const SHARED_SCALES: Part =
    Part::Subgroups { with: wgsl!("lib/scales_shared.wgsl"), without: wgsl!("lib/scales_alone.wgsl") };
const SQUARES: Part =
    Part::Subgroups { with: wgsl!("lib/squares_subgroup.wgsl"), without: wgsl!("lib/squares_shared.wgsl") };

/// Rows that a workgroup makes, at the least.
pub(super) const MIN_ROWS: u32 = 1;

/// What a form is chosen for: a matrix by its shape and format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// Rows of W.
    pub rows: usize,
    /// Values in a row of W.
    pub columns: usize,
    /// How they are stored.
    pub format: WeightFormat,
}

impl std::fmt::Display for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{} {}", self.rows, self.columns, self.format)
    }
}

/// How the work is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Lanes of a workgroup.
    pub lanes: u32,
    /// Rows of y that a workgroup makes.
    pub rows: u32,
    /// Rows that a team of lanes makes at a time: 1, 2, 4 or 8.
    pub team_rows: u32,
    /// Rows whose squares are summed up before the next norm adds them: the same for any number of columns.
    pub square_rows: u32,
    /// Units of each row that a lane has on their way at a time: 1, 2 or 4.
    pub flight: u32,
    /// The whole workgroup is one team; else each subgroup is one.
    pub wide: bool,
    /// The units of a row are a constant of the module: a GPU's driver then keeps more loads on their way.
    pub fixed: bool,
    /// Rows of x that share what is loaded of W.
    pub columns: u32,
}

/// The largest power of two that is not above `n`.
fn power_below(n: u32) -> u32 {
    1 << n.max(1).ilog2()
}

impl Form {
    /// Subgroups as teams, each with its rows.
    fn subgroups(caps: &Caps, lanes: u32, team_rows: u32, flight: u32) -> Self {
        let rows = lanes / caps.subgroup_min.clamp(1, lanes) * team_rows;
        Form { lanes, rows, team_rows, square_rows: team_rows.min(2), flight, wide: false, fixed: true, columns: 1 }
    }

    /// A workgroup as one team.
    fn workgroup(lanes: u32, team_rows: u32, flight: u32) -> Self {
        Form {
            lanes,
            rows: team_rows,
            team_rows,
            square_rows: team_rows.min(2),
            flight,
            wide: true,
            fixed: true,
            columns: 1,
        }
    }

    /// What suits an adapter for a matrix.
    pub fn of(caps: &Caps, matrix: &Matrix) -> Self {
        match (caps.cpu, caps.subgroups) {
            // A CPU runs a workgroup on one thread: small ones, without barriers. Loads of x cost as much as loads of W,
            // so eight rows share them.
            (true, true) => Form { lanes: (2 * caps.subgroup_min).min(64), team_rows: 8, ..Self::portable() },
            (false, true) => Self::of_gpu(caps, matrix),
            (_, false) => Form { fixed: !caps.cpu, ..Self::portable() },
        }
    }

    /// What runs anywhere.
    fn portable() -> Self {
        Form { lanes: 64, rows: 16, team_rows: 4, square_rows: 4, flight: 1, wide: false, fixed: false, columns: 1 }
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
        // Few rows fill a GPU only if each has many lanes; many rows are better off with teams that need not wait.
        let minimum = matches!(matrix.format, WeightFormat::Q4K | WeightFormat::Q5K);
        match (matrix.format.is_plain(), matrix.rows) {
            (true, ..1024) => wide(512, 2),
            (true, 1024..8192) => wide(128, 4),
            (true, 8192..32768) => Self::subgroups(caps, 128, 4, 2),
            (true, _) => wide(256, 2),
            (false, ..1024) => wide(256, 1),
            (false, 1024..8192) if matrix.format.bits() > 8.0 => wide(256, 2),
            (false, 1024..8192) => wide(128, 2),
            (false, _) if minimum => Self::subgroups(caps, 256, 4, 2),
            (false, _) => wide(128, 4),
        }
    }

    /// Every form that any adapter gets, as far as this one can run it, and some between. The first is this adapter's own, if it
    /// is a CPU.
    pub fn all(caps: &Caps) -> Vec<Self> {
        let mut forms = vec![
            Self::portable(),
            Self::subgroups(caps, 128, 2, 2),
            Self::workgroup(64, 4, 2),
            Self::subgroups(caps, 64, 1, 4),
            Form { fixed: false, ..Self::subgroups(caps, 256, 4, 1) },
            Self::workgroup(256, 2, 4),
            Self::workgroup(512, 1, 2),
        ];
        if caps.cpu {
            // Its driver takes minutes to compile loops that it unrolls: one form shows that the bounds are right.
            forms.iter_mut().skip(2).for_each(|form| form.fixed = false);
        }
        if caps.subgroups {
            let cpu = Caps { cpu: true, ..caps.clone() };
            forms.insert(0, Self::of(&cpu, &Matrix { rows: 1, columns: 1, format: WeightFormat::F32 }));
        }
        forms.retain(|form| form.runs_on(caps));
        forms.dedup();
        forms
    }

    /// Forms worth timing for a matrix on this adapter, the first of them that of [`Form::of`].
    pub fn candidates(caps: &Caps, matrix: &Matrix) -> Vec<Self> {
        let mut forms = vec![Self::of(caps, matrix)];
        if caps.cpu || !caps.subgroups {
            forms.extend(Self::all(caps));
        } else {
            let units = size(matrix.format.row_units(matrix.columns));
            for team_rows in [1, 2, 4] {
                forms.extend(
                    [(128, 1), (128, 2), (128, 4), (256, 2)].map(|(l, f)| Self::subgroups(caps, l, team_rows, f)),
                );
                let lanes = [32, 64, 128, 256, 512].into_iter().filter(|l| *l >= caps.subgroup_max && *l <= units);
                forms.extend(lanes.map(|l| Self::workgroup(l, team_rows, power_below(units / l).min(4))));
            }
        }
        forms.retain(|form| form.runs_on(caps));
        let mut unlike: Vec<Form> = Vec::new();
        for form in forms {
            if !unlike.contains(&form) {
                unlike.push(form);
            }
        }
        unlike
    }

    fn runs_on(self, caps: &Caps) -> bool {
        self.lanes <= caps.max_lanes
    }

    /// This form for so many rows of x at a time. Teams are as large, so that each row is summed in the same order, and squares
    /// are summed up by as many rows.
    fn with_columns(self, columns: u32, format: WeightFormat) -> Self {
        match columns {
            1 => self,
            // Small workgroups are a CPU's: it has no registers for the sums anyhow, and memory near by. More rows share the
            // scales of the norm.
            _ if self.lanes < 64 => Form { columns, rows: self.rows.max(32), team_rows: 8, ..self },
            // Rows of W share what is loaded of x, as far as registers go.
            _ if self.fixed => {
                let team_rows = if columns == 8 && format.is_plain() { 4 } else { 2 };
                Form { columns, flight: 1, rows: self.rows / self.team_rows * team_rows, team_rows, ..self }
            }
            _ => Form { columns, flight: 1, ..self },
        }
    }

    /// The forms for runs of few rows and of many, with the most rows that each is for.
    pub(super) fn by_rows(self, format: WeightFormat) -> impl Iterator<Item = (u32, Self)> {
        COLUMNS.into_iter().map(move |columns| (columns, self.with_columns(columns, format)))
    }

    /// The kernel for a matrix of so many units a row, and a normed x with squares in so many parts.
    pub(super) fn def(
        self,
        mut parts: Vec<Part>,
        bindings: Vec<Binding>,
        (units, squares): (usize, Option<usize>),
    ) -> KernelDef {
        parts.extend([file(wgsl!("lib/columns.wgsl")), if self.wide { WIDE_TEAM } else { TEAM }]);
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
            if self.wide { WIDE_TOTALS } else { file(wgsl!("lib/totals_team.wgsl")) },
            SQUARES,
            file(wgsl!("matvec.wgsl")),
        ]);
        KernelDef::new("matvec", parts, bindings)
            .consts(&[
                ("UNITS", if self.fixed { size(units) } else { 0 }),
                ("SQUARES_IN", if self.fixed { squares.map_or(0, size) } else { 0 }),
                ("FLIGHT", self.flight),
                ("COLUMNS", self.columns),
                ("SQUARE_ROWS", self.square_rows),
                ("LANES", self.lanes),
            ])
            .overrides(&[("WG", self.lanes), ("ROWS", self.rows)])
    }

    pub(super) fn grid(self, rows: usize) -> [Count; 2] {
        [Count::of(rows, self.rows), Count::Rows(self.columns)]
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Form { lanes, rows, team_rows, square_rows: _, flight, wide, fixed, columns } = self;
        let team = if *wide { " wide" } else { "" };
        let bounds = if *fixed { "" } else { ", any length" };
        write!(f, "{lanes} lanes {rows} rows by {team_rows}{team}, {flight} in flight{bounds}")?;
        if *columns == 1 { Ok(()) } else { write!(f, ", {columns} columns") }
    }
}

pub(super) fn defs(caps: &Caps) -> Vec<KernelDef> {
    let mut defs = Vec::new();
    for form in Form::all(caps) {
        for format in WeightFormat::ALL {
            for (columns, form) in form.by_rows(format) {
                // What lies between few and many columns is the same for all formats.
                if !matches!(columns, 1 | 8) && format != WeightFormat::F32 {
                    continue;
                }
                let product = Product::Matvec(form);
                let def = |squares, epilogue| product::def(product, Shape { format, columns: 512, squares, epilogue });
                defs.extend([EpilogueKind::Store, EpilogueKind::ResidualNorm].map(|epilogue| def(None, epilogue)));
                let normed = [EpilogueKind::Store, EpilogueKind::Mixer(4), EpilogueKind::Logits(2)];
                defs.extend(normed.map(|epilogue| def(Some(64), epilogue)));
            }
        }
    }
    defs
}

pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, form) in Form::all(caps).into_iter().enumerate() {
        let product = Product::Matvec(form);
        // The first is looked at in all formats, shapes and numbers of columns; of the others a shape a format with one column,
        // and two kinds of teams with all columns in one format. A CPU's driver takes seconds to compile a kernel: there a format
        // of each length of a unit will do for most.
        let own = i == 0;
        let most_tokens = |format| if own || i < 4 && format == WeightFormat::F32 { usize::MAX } else { 1 };
        let some = [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Q4_0];
        let formats = if caps.cpu && i > 1 { &some[..] } else { &WeightFormat::ALL };
        let which = if own { product::Cases::All } else { product::Cases::Few };
        let form_name = form.to_string();
        let epilogues = [EpilogueKind::Store];
        cases.extend(product::cases("matvec", &form_name, (product, formats), &epilogues, (which, &most_tokens)));
        // A format of each length of a unit, one row and eight columns: prologues and epilogues are the same for all.
        let shapes = if own { 4 } else { 1 };
        for format in some.into_iter().take(if own { 3 } else { 1 }) {
            for (tokens, rows, columns) in
                [(9, 44, 12), (1, 1, 1), (1, 300, 129), (17, 44, 70)].into_iter().take(shapes)
            {
                let tokens = tokens.min(most_tokens(format));
                let shape = format!("{form} {} normed {tokens}x{rows}x{columns}", format.name());
                let build = move |io: &mut Io| build_normed(io, product, format, (tokens, rows, columns), Then::Store);
                cases.push(Case::new("matvec", shape, build));
            }
            for (tokens, rows, columns) in
                [(9, 44, 12), (1, 1, 1), (1, 301, 129), (17, 45, 70)].into_iter().take(shapes)
            {
                let tokens = tokens.min(most_tokens(format));
                let shape = format!("{form} {} residual {tokens}x{rows}x{columns}", format.name());
                let build = move |io: &mut Io| build_residual(io, product, format, (tokens, rows, columns));
                cases.push(Case::new("matvec", shape, build));
            }
            for (tokens, inner, columns, kernel) in
                [(9, 35, 70, 4), (1, 1, 1, 4), (1, 128, 33, 3)].into_iter().take(shapes)
            {
                let tokens = tokens.min(most_tokens(format));
                let shape = format!("{form} {} mixer {tokens}x{inner}x{columns} kernel {kernel}", format.name());
                let rows = 2 * inner;
                let then = Then::Mixer(kernel);
                let build = move |io: &mut Io| build_normed(io, product, format, (tokens, rows, columns), then);
                cases.push(Case::new("matvec", shape, build));
            }
            let (tokens, rows, columns) = (most_tokens(format).min(9), 44, 129);
            let shape = format!("{form} {} logits {tokens}x{rows}x{columns}", format.name());
            let build = move |io: &mut Io| build_normed(io, product, format, (tokens, rows, columns), Then::Logits);
            cases.push(Case::new("matvec", shape, build));
        }
    }
    cases
}

/// What becomes of a product of a normed x.
#[derive(Clone, Copy)]
enum Then {
    Store,
    /// The mixer's epilogue, with so many taps.
    Mixer(usize),
    Logits,
}

/// A product of a normed x.
fn build_normed(
    io: &mut Io,
    product: Product,
    format: WeightFormat,
    (tokens, rows, columns): (usize, usize, usize),
    then: Then,
) -> Result<()> {
    let bytes = format.encode(&io.random.uniforms(rows * columns, -1.0, 1.0), columns);
    let tensor = Tensor::of_blocks("W", "case", format, &[rows, columns], &bytes);
    let matrix = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
    let x = io.random.uniforms(tokens * columns, -1.0, 1.0);
    // The squares are those of x before the norm's weights: any will do.
    let parts = 3; // filled up to a vec4 below
    let squares = io.random.uniforms(tokens * parts, 0.1, 1.0);
    let scales = squares.chunks_exact(parts).map(|parts| {
        let sum: f64 = parts.iter().map(|v| f64::from(*v)).sum();
        1.0 / (sum / columns as f64 + 1e-5).sqrt()
    });
    let product_of_norm: Vec<f64> = product::cpu(&wide(&x), &tensor.to_f32(), columns)
        .chunks_exact(rows)
        .zip(scales)
        .flat_map(|(row, scale)| row.iter().map(move |v| v * scale).collect::<Vec<_>>())
        .collect();
    io.rows = tokens;
    let x = io.rows_in_order("x", &x, columns, matrix.order())?;
    // What fills a token's up to whole vec4s may be anything.
    let filled: Vec<f32> = squares.chunks_exact(parts).flat_map(|parts| [parts, &[1e9]].concat()).collect();
    let squares = io.input("squares", &filled)?;
    let batch = io.uniform(Batch { rows: size(tokens), ..Default::default() })?;
    let prologue = Prologue::Norm { squares: &squares, parts, eps: 1e-5 };
    // The scale multiplies what the sum is off by.
    let tolerance = super::case::Tolerance { abs: 16.0 * TOLERANCE.abs, ..TOLERANCE };
    // Row r is slot r, its version r to version r + 1.
    let versions = 2;
    let table: Vec<Row> = (0..size(tokens)).map(|r| Row { slot: r, version: r, ..Default::default() }).collect();
    let table = io.input("rows", &table)?;
    let kernel = match then {
        Then::Mixer(kernel) => kernel,
        Then::Store => {
            let y = io.rows_out("y", &product_of_norm, rows, tolerance)?;
            return matrix.record(&mut io.plan, "y", (&x, &y), (prologue, Epilogue::Store), (product, &batch));
        }
        Then::Logits => {
            let before = io.random.uniforms(tokens * versions * rows, -1.0, 1.0);
            let mut after = wide(&before);
            for (r, row) in product_of_norm.chunks_exact(rows).enumerate() {
                after[(r * versions + (r + 1) % versions) * rows..][..rows].copy_from_slice(row);
            }
            let buf = io.in_out("y", &before, &after, tolerance)?;
            let y = Activation { buf, width: rows, stride: rows, order: Order::Plain };
            let epilogue = Epilogue::Logits(&table, versions);
            return matrix.record(&mut io.plan, "y", (&x, &y), (prologue, epilogue), (product, &batch));
        }
    };
    let inner = rows / 2;
    let size_of_state = (kernel - 1) * inner;
    let taps = conv::pack(&io.random.uniforms(inner * kernel, -1.0, 1.0), &io.random.uniforms(inner, -1.0, 1.0));
    let before = io.random.uniforms(tokens * versions * size_of_state, -1.0, 1.0);
    let mut after = wide(&before);
    let mut y = Vec::new();
    for (r, row) in product_of_norm.chunks_exact(rows).enumerate() {
        let at = |version: usize| (r * versions + version % versions) * size_of_state;
        let mut state = wide(&before[at(r)..][..size_of_state]);
        y.extend(conv::cpu(&row[..inner], &taps, inner, &mut state));
        y.extend(row[inner..].iter().map(|v| silu(*v)));
        after[at(r + 1)..][..size_of_state].copy_from_slice(&state);
    }
    // What reads x decides where it lies; the gate follows it.
    let order = if io.random.below(2) == 0 { Order::Plain } else { Order::ByQuads };
    let gate = product::gate_first(inner);
    let place = |row| if row < inner { order.place(row, inner) } else { gate + row - inner };
    let y = io.rows_out_at("y", &y, (rows, 2 * gate), tolerance, place)?.ordered(2 * gate, order);
    let state = io.in_out("state", &before, &after, tolerance)?;
    let taps = io.input("taps", &taps)?;
    let conv = Conv { taps: &taps, state: &state, inner, kernel, versions };
    matrix.record(&mut io.plan, "y", (&x, &y), (prologue, Epilogue::Mixer(conv, &table)), (product, &batch))
}

/// A product added to the residual stream, which is made ready for the next norm.
fn build_residual(
    io: &mut Io,
    product: Product,
    format: WeightFormat,
    (tokens, rows, columns): (usize, usize, usize),
) -> Result<()> {
    let bytes = format.encode(&io.random.uniforms(rows * columns, -1.0, 1.0), columns);
    let tensor = Tensor::of_blocks("W", "case", format, &[rows, columns], &bytes);
    let matrix = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
    let x = io.random.uniforms(tokens * columns, -1.0, 1.0);
    let residual = io.random.uniforms(tokens * rows, -1.0, 1.0);
    let weight = io.random.uniforms(rows, -1.0, 1.0);
    let mut y = product::cpu(&wide(&x), &tensor.to_f32(), columns);
    y.iter_mut().zip(&residual).for_each(|(y, residual)| *y += f64::from(*residual));
    let normed: Vec<f64> = y.iter().zip(wide(&weight).iter().cycle()).map(|(y, weight)| y * weight).collect();
    let Product::Matvec(form) = product else { unreachable!("a decode step's product") };
    let square_rows = form.square_rows as usize;
    let mut squares = Vec::new();
    for row in y.chunks_exact(rows) {
        let mut first = 0;
        for shard in matrix.shards() {
            let parts = row[first..first + shard.rows].chunks(square_rows);
            squares.extend(parts.map(|part| Some(part.iter().map(|v| v * v).sum::<f64>())));
            first += shard.rows;
        }
        squares.resize(squares.len().next_multiple_of(4), None);
    }
    io.rows = tokens;
    let x = io.rows_in_order("x", &x, columns, matrix.order())?;
    let residual = io.rows_in("residual", &residual, rows)?;
    let y = io.rows_out("y", &y, rows, TOLERANCE)?;
    let order = if io.random.below(2) == 0 { Order::Plain } else { Order::ByQuads };
    let normed = io.rows_out_order("normed", &normed, rows, TOLERANCE, order)?;
    // A square is off by twice what its root is, times the root: up to about 20 here.
    let tolerance = super::case::Tolerance { abs: 40.0 * TOLERANCE.abs, rel: 1e-5, ..TOLERANCE };
    let squares = io.output("squares", squares, tolerance)?;
    let weight = io.input("next_norm", &weight)?;
    let batch = io.uniform(Batch { rows: size(tokens), ..Default::default() })?;
    let next = NextNorm { weight: &weight, normed: &normed, squares: &squares };
    let epilogue = Epilogue::ResidualNorm(&residual, next);
    matrix.record(&mut io.plan, "y", (&x, &y), (Prologue::None, epilogue), (product, &batch))
}
