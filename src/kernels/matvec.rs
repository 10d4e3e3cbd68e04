//! `matvec`: products of a weight matrix with the rows of a decode step, bound by the bandwidth of the weights.

use super::case::{Case, Io, wide};
use super::conv::{self, Conv};
use super::linear::Linear;
use super::product::{self, Epilogue, EpilogueKind, NextNorm, Product, Prologue, TOLERANCE};
use super::{Activation, Batch, COLUMNS, Part, Row, TEAM, file, silu, size};
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Binding, Caps, Count, KernelDef, wgsl};

/// The whole workgroup sums a row.
const WIDE_TEAM: Part =
    Part::Subgroups { with: wgsl!("lib/team_workgroup.wgsl"), without: wgsl!("lib/team_shared.wgsl") };

/// Rows that a workgroup makes, at the least.
pub(super) const MIN_ROWS: u32 = 4;

/// How the work is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Lanes of a workgroup.
    pub lanes: u32,
    /// Rows of y that a workgroup makes.
    pub rows: u32,
    /// Rows that a team of lanes makes at a time; a multiple of 4.
    pub team_rows: u32,
    /// The whole workgroup is one team.
    pub wide: bool,
    /// Rows of x that share what is loaded of W.
    pub columns: u32,
}

impl Form {
    /// What suits an adapter for matrices of many rows.
    pub fn of(caps: &Caps) -> Self {
        match (caps.cpu, caps.subgroups) {
            // A CPU runs a workgroup on one thread: small ones, without barriers. Loads of x cost as much as loads of W,
            // so eight rows share them.
            (true, true) => {
                Form { lanes: (2 * caps.subgroup_min).min(64), rows: 16, team_rows: 8, wide: false, columns: 1 }
            }
            // Eight subgroups, each with rows of its own; four rows are enough loads under way.
            (false, true) => {
                Form { lanes: (8 * caps.subgroup_min).clamp(64, 256), rows: 32, team_rows: 4, wide: false, columns: 1 }
            }
            (_, false) => Form { lanes: 64, rows: 16, team_rows: 4, wide: false, columns: 1 },
        }
    }

    /// What suits an adapter for matrices of few rows, such as x_proj's: a GPU is filled by cutting their columns.
    pub fn narrow(caps: &Caps) -> Self {
        if caps.cpu { Self::of(caps) } else { Form { lanes: 256, rows: 4, team_rows: 4, wide: true, columns: 1 } }
    }

    /// Every form that any adapter gets, as far as this one can run it, and some between for tuning.
    pub fn all(caps: &Caps) -> Vec<Self> {
        let mut forms = Vec::new();
        for cpu in [true, false] {
            let caps = Caps { cpu, ..caps.clone() };
            forms.extend([Form::of(&caps), Form::narrow(&caps)]);
        }
        let lanes = if caps.subgroups { (2 * caps.subgroup_min).clamp(16, 64) } else { 64 };
        forms.push(Form { lanes, rows: 8, team_rows: 4, wide: false, columns: 1 });
        forms.push(Form { lanes: 128, rows: 8, team_rows: 8, wide: true, columns: 1 });
        let mut unlike: Vec<Form> = Vec::new();
        for form in forms {
            if !unlike.contains(&form) {
                unlike.push(form);
            }
        }
        unlike
    }

    /// This form for weights of a format: where a lane unpacks 32 values, the lanes of a GPU read x from as many places at a
    /// time, 128 bytes apart, which costs more than reading W. So eight rows share it.
    pub(super) fn for_format(self, format: WeightFormat) -> Self {
        if format.unit_values() < 32 || self.wide || self.team_rows >= 8 {
            return self;
        }
        Form { rows: 2 * self.rows, team_rows: 8, ..self }
    }

    /// This form for so many rows of x at a time. Teams are as large, so that each row is summed in the same order.
    fn with_columns(self, columns: u32) -> Self {
        match columns {
            1 => self,
            // Small workgroups are a CPU's: it has no registers for the sums anyhow, and memory near by. More rows share the
            // scales of the norm.
            _ if self.lanes < 64 => Form { columns, rows: self.rows.max(32), team_rows: 8, ..self },
            // Sums of four rows and eight columns fit a GPU's registers. Not measured.
            _ => Form { columns, team_rows: 4, ..self },
        }
    }

    /// The forms for runs of few rows and of many, with the most rows that each is for.
    pub(super) fn by_rows(self) -> impl Iterator<Item = (u32, Self)> {
        COLUMNS.into_iter().map(move |columns| (columns, self.with_columns(columns)))
    }

    pub(super) fn def(self, mut parts: Vec<Part>, bindings: Vec<Binding>, normed: bool) -> KernelDef {
        parts.push(file(wgsl!("lib/columns.wgsl")));
        if normed {
            parts.push(file(wgsl!("lib/prologue_norm.wgsl")));
            // Two teams, as a CPU has, take the scales sooner than they wait for each other.
            let many_teams = self.columns > 1 && self.lanes >= 64;
            parts.push(file(if many_teams { wgsl!("lib/scales_shared.wgsl") } else { wgsl!("lib/scales_alone.wgsl") }));
        } else {
            parts.push(file(wgsl!("lib/prologue_none.wgsl")));
        }
        parts.extend([if self.wide { WIDE_TEAM } else { TEAM }, file(wgsl!("matvec.wgsl"))]);
        KernelDef::new("matvec", parts, bindings)
            .consts(&[("TEAM_ROWS", self.team_rows), ("COLUMNS", self.columns)])
            .overrides(&[("WG", self.lanes), ("ROWS", self.rows)])
    }

    pub(super) fn grid(self, rows: usize) -> [Count; 2] {
        [Count::of(rows, self.rows), Count::Rows(self.columns)]
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Form { lanes, rows, team_rows, wide, columns } = self;
        write!(f, "{lanes} lanes {rows} rows by {team_rows}{}", if *wide { " wide" } else { "" })?;
        if *columns == 1 { Ok(()) } else { write!(f, " {columns} columns") }
    }
}

pub(super) fn defs(caps: &Caps) -> Vec<KernelDef> {
    let mut defs = Vec::new();
    for form in Form::all(caps) {
        for (columns, form) in form.by_rows() {
            let product = Product::Matvec(form);
            // What lies between few and many columns is the same for all formats.
            let formats = if matches!(columns, 1 | 8) { &WeightFormat::ALL[..] } else { &[WeightFormat::F32] };
            for format in formats.iter().copied() {
                for epilogue in [EpilogueKind::Store, EpilogueKind::ResidualNorm] {
                    defs.push(product::def(product, format, false, epilogue));
                }
                for epilogue in [EpilogueKind::Store, EpilogueKind::Mixer(4), EpilogueKind::Logits(2)] {
                    defs.push(product::def(product, format, true, epilogue));
                }
            }
        }
    }
    defs
}

pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    let own = [Form::of(caps), Form::narrow(caps)];
    for form in Form::all(caps) {
        let product = Product::Matvec(form);
        // What this adapter gets is looked at in all formats with all columns; other forms with all columns in one, as a
        // driver takes long to compile them.
        let most_tokens = |format| if own.contains(&form) || format == WeightFormat::F32 { usize::MAX } else { 1 };
        cases.extend(product::cases("matvec", &form.to_string(), product, &[EpilogueKind::Store], most_tokens));
        // A format of each length of a unit, one row and eight columns: prologues and epilogues are the same for all.
        for format in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Q4_0] {
            for (tokens, rows, columns) in [(1, 1, 1), (9, 44, 12), (1, 300, 129), (17, 44, 70)] {
                let tokens = tokens.min(most_tokens(format));
                let shape = format!("{form} {} normed {tokens}x{rows}x{columns}", format.name());
                let build = move |io: &mut Io| build_normed(io, product, format, (tokens, rows, columns), Then::Store);
                cases.push(Case::new("matvec", shape, build));
            }
            for (tokens, rows, columns) in [(1, 1, 1), (9, 44, 12), (1, 301, 129), (17, 45, 70)] {
                let tokens = tokens.min(most_tokens(format));
                let shape = format!("{form} {} residual {tokens}x{rows}x{columns}", format.name());
                let build = move |io: &mut Io| build_residual(io, product, format, (tokens, rows, columns));
                cases.push(Case::new("matvec", shape, build));
            }
            for (tokens, inner, columns, kernel) in [(1, 1, 1, 4), (9, 35, 70, 4), (1, 128, 33, 3)] {
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
    let parts = 3;
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
    let (x, squares) = (io.rows_in("x", &x, columns)?, io.input("squares", &squares)?);
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
            let y = Activation { buf: io.in_out("y", &before, &after, tolerance)?, width: rows, stride: rows };
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
    let y = io.rows_out("y", &y, rows, tolerance)?;
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
    let mut squares = Vec::new();
    for row in y.chunks_exact(rows) {
        let mut first = 0;
        for shard in matrix.shards() {
            let fours = row[first..first + shard.rows].chunks(4);
            squares.extend(fours.map(|four| Some(four.iter().map(|v| v * v).sum::<f64>())));
            first += shard.rows;
        }
    }
    io.rows = tokens;
    let (x, residual) = (io.rows_in("x", &x, columns)?, io.rows_in("residual", &residual, rows)?);
    let y = io.rows_out("y", &y, rows, TOLERANCE)?;
    let normed = io.rows_out("normed", &normed, rows, TOLERANCE)?;
    // A square is off by twice what its root is, times the root: up to about 20 here.
    let tolerance = super::case::Tolerance { abs: 40.0 * TOLERANCE.abs, rel: 1e-5, ..TOLERANCE };
    let squares = io.output("squares", squares, tolerance)?;
    let weight = io.input("next_norm", &weight)?;
    let batch = io.uniform(Batch { rows: size(tokens), ..Default::default() })?;
    let next = NextNorm { weight: &weight, normed: &normed, squares: &squares };
    let epilogue = Epilogue::ResidualNorm(&residual, next);
    matrix.record(&mut io.plan, "y", (&x, &y), (Prologue::None, epilogue), (product, &batch))
}
