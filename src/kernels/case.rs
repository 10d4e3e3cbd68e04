//! Cases: reproducible problems for a kernel, run on the device and by its twin, and held against each other.
//!
//! Every output buffer starts as a NaN pattern with guard words on both sides, so that a value never written, a write
//! out of range and a NaN that was computed are three different faults.

use super::{Activation, Order};
use crate::error::Result;
use crate::gpu::{Buf, Gpu, Plan, Usage};

/// What an output holds before the kernel runs: a NaN that no arithmetic makes.
pub(super) const FILL: u32 = 0x7fa5_c3e1;
/// Guard words before and after an output; 256 bytes, the largest alignment of a binding.
const GUARD: usize = 64;

/// How far the device may be from the twin: |gpu - twin| <= abs + rel |twin| everywhere, and in the mean square.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Largest normalized mean square error, sum (gpu - twin)^2 / sum twin^2.
    pub nmse: f64,
    /// Absolute part of the bound on each value.
    pub abs: f64,
    /// Relative part of the bound on each value.
    pub rel: f64,
}

impl Tolerance {
    /// Bit for bit.
    pub const EXACT: Tolerance = Tolerance { nmse: 0.0, abs: 0.0, rel: 0.0 };
}

/// What was reached where nothing was wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reached {
    /// Normalized mean square error.
    pub nmse: f64,
    /// Largest absolute error.
    pub max_abs: f64,
    /// Largest error as a share of what its value may have.
    pub share: f64,
}

impl Reached {
    /// The worse of each.
    #[must_use]
    pub fn worst(self, other: Reached) -> Reached {
        Reached {
            nmse: self.nmse.max(other.nmse),
            max_abs: self.max_abs.max(other.max_abs),
            share: self.share.max(other.share),
        }
    }
}

/// What was wrong: the output, the place in it, and the values of both sides.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are said above")]
pub enum Fault {
    /// A value that the kernel should have written still holds the fill.
    Unwritten { output: String, at: usize },
    /// A word that the kernel should not have touched has changed.
    Stray { output: String, at: isize },
    /// A value that was computed is NaN or infinite.
    NotFinite { output: String, at: usize, cpu: f64 },
    /// A value is too far from the twin's.
    Far { output: String, at: usize, gpu: f64, cpu: f64, allowed: f64 },
    /// All values are near, but too many of them are off.
    Nmse { output: String, nmse: f64, allowed: f64 },
    /// The chosen token is not what the rules allow.
    Choice { output: String, why: String },
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Unwritten { output, at } => write!(f, "{output}[{at}] was never written"),
            Fault::Stray { output, at } => write!(f, "{output}[{at}] is outside of what may be written, but was"),
            Fault::NotFinite { output, at, cpu } => write!(f, "{output}[{at}] is not finite, the twin has {cpu:e}"),
            Fault::Far { output, at, gpu, cpu, allowed } => {
                write!(
                    f,
                    "{output}[{at}] gpu {gpu:e} cpu {cpu:e}, off by {:e} (allowed {allowed:e})",
                    (gpu - cpu).abs()
                )
            }
            Fault::Nmse { output, nmse, allowed } => write!(f, "{output}: nmse {nmse:e} (allowed {allowed:e})"),
            Fault::Choice { output, why } => write!(f, "{output}: {why}"),
        }
    }
}

/// Holds one output against the twin's values. `None` marks words that must still hold the fill.
pub fn compare(output: &str, gpu: &[f32], cpu: &[Option<f64>], tolerance: Tolerance) -> Result<Reached, Fault> {
    assert_eq!(gpu.len(), cpu.len(), "{output}: the twin has another size");
    let output = || output.to_owned();
    let mut reached = Reached::default();
    let (mut errors, mut squares, mut judged) = (0.0, 0.0, 0);
    for (at, (value, expected)) in gpu.iter().zip(cpu).enumerate() {
        let Some(expected) = *expected else {
            if value.to_bits() != FILL {
                return Err(Fault::Stray { output: output(), at: isize::try_from(at).unwrap_or(isize::MAX) });
            }
            continue;
        };
        if value.to_bits() == FILL {
            return Err(Fault::Unwritten { output: output(), at });
        }
        if !value.is_finite() && expected.is_finite() {
            return Err(Fault::NotFinite { output: output(), at, cpu: expected });
        }
        let error = (f64::from(*value) - expected).abs();
        let allowed = tolerance.abs + tolerance.rel * expected.abs();
        if error.is_nan() || error > allowed {
            return Err(Fault::Far { output: output(), at, gpu: f64::from(*value), cpu: expected, allowed });
        }
        reached.max_abs = reached.max_abs.max(error);
        if error > 0.0 {
            reached.share = reached.share.max(error / allowed);
        }
        errors += error * error;
        squares += expected * expected;
        judged += 1;
    }
    // A mean over a handful of values says nothing: one that cancels to almost zero would rule it.
    reached.nmse = if errors == 0.0 || judged < 8 { 0.0 } else { errors / squares };
    if reached.nmse > tolerance.nmse {
        return Err(Fault::Nmse { output: output(), nmse: reached.nmse, allowed: tolerance.nmse });
    }
    Ok(reached)
}

type Build = Box<dyn Fn(&mut Io) -> Result<()> + Send + Sync>;

/// One reproducible problem: a kernel, a shape, a seed.
pub struct Case {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Shape and variant.
    pub shape: String,
    build: Build,
}

/// An error put where the device's result is, to show that it would be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// None.
    Nothing,
    /// One value of each output is changed on the device, after the kernel ran.
    WrongValue,
    /// One value is put back to the fill.
    Unwritten,
    /// A guard word is overwritten.
    Stray,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kernel, self.shape)
    }
}

impl Case {
    pub(super) fn new(
        kernel: &'static str,
        shape: impl Into<String>,
        build: impl Fn(&mut Io) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Case { kernel, shape: shape.into(), build: Box::new(build) }
    }

    /// Runs on the device and by the twin. The outer result is about running, the inner about agreeing.
    pub async fn run(&self, gpu: &Gpu, plant: Plant) -> Result<Result<Reached, Fault>> {
        let seed = self.shape.bytes().fold(7u64, |s, b| s.wrapping_mul(31).wrapping_add(b.into()));
        let mut io =
            Io { gpu: gpu.clone(), plan: Plan::new(gpu, "case"), rows: 1, outputs: vec![], random: Random(seed) };
        (self.build)(&mut io)?;
        io.plan.run(io.rows)?;
        let mut worst = Reached::default();
        for (i, output) in io.outputs.iter().enumerate() {
            output.plant(gpu, plant, io.random.0.wrapping_add(i as u64)).await?;
            match output.check(gpu).await? {
                Err(fault) => return Ok(Err(fault)),
                Ok(reached) => worst = worst.worst(reached),
            }
        }
        Ok(Ok(worst))
    }
}

type Judge = Box<dyn Fn(&[u32]) -> Result<Reached, Fault>>;

struct Output {
    name: String,
    guarded: Buf<u32>,
    len: usize,
    judge: Judge,
}

impl Output {
    async fn plant(&self, gpu: &Gpu, plant: Plant, salt: u64) -> Result<()> {
        if plant == Plant::Nothing {
            return Ok(());
        }
        if plant == Plant::Stray {
            let guard = if salt.is_multiple_of(2) { GUARD - 1 } else { GUARD + self.len };
            return gpu.write(&self.guarded, guard, &[0]);
        }
        // A word that the kernel wrote: the filling of rows holds the fill, and may.
        let words = gpu.read(&self.guarded, GUARD..GUARD + self.len).await?;
        let from = (salt % self.len as u64) as usize;
        let at = (from..self.len).chain(0..from).find(|at| words[*at] != FILL).unwrap_or(from);
        let wrong = if plant == Plant::Unwritten { FILL } else { (f32::from_bits(words[at]) * 1.01 + 1.0).to_bits() };
        gpu.write(&self.guarded, GUARD + at, &[wrong])
    }

    async fn check(&self, gpu: &Gpu) -> Result<Result<Reached, Fault>> {
        let words = gpu.read(&self.guarded, 0..self.guarded.len()).await?;
        let (before, rest) = words.split_at(GUARD);
        let (values, after) = rest.split_at(self.len);
        let stray = |at| Ok(Err(Fault::Stray { output: self.name.clone(), at }));
        if let Some(i) = before.iter().position(|w| *w != FILL) {
            return stray(i as isize - GUARD as isize);
        }
        if let Some(i) = after.iter().position(|w| *w != FILL) {
            return stray((self.len + i) as isize);
        }
        Ok((self.judge)(values))
    }
}

/// What a case builds its problem with.
pub struct Io {
    /// The device.
    pub gpu: Gpu,
    /// Where the kernel is recorded.
    pub plan: Plan,
    /// Rows that the plan is run for.
    pub rows: usize,
    /// Seeded by the case's shape.
    pub random: Random,
    outputs: Vec<Output>,
}

impl Io {
    /// A buffer that the kernel reads.
    pub fn input<T: bytemuck::Pod>(&self, name: &str, values: &[T]) -> Result<Buf<T>> {
        self.gpu.upload(name, values, Usage::Storage)
    }

    /// Activations that the kernel reads, `width` values a row, padded with zeros.
    pub fn rows_in(&self, name: &str, values: &[f32], width: usize) -> Result<Activation> {
        self.rows_in_order(name, values, width, Order::Plain)
    }

    /// [`Io::rows_in`] in another order.
    pub fn rows_in_order(&self, name: &str, values: &[f32], width: usize, order: Order) -> Result<Activation> {
        let activation = Activation::new(&self.gpu, name, values.len() / width, width)?.ordered(width, order);
        for (r, row) in values.chunks_exact(width).enumerate() {
            activation.write_row(&self.gpu, r, row)?;
        }
        Ok(activation)
    }

    /// A uniform.
    pub fn uniform<T: bytemuck::Pod>(&self, value: T) -> Result<Buf<T>> {
        self.gpu.upload("uniform", &[value], Usage::Uniform)
    }

    /// A buffer that the kernel writes, judged word by word. `start` is what it holds before, the fill where `None`.
    pub fn output_words(
        &mut self,
        name: &str,
        start: &[Option<u32>],
        judge: impl Fn(&[u32]) -> Result<Reached, Fault> + 'static,
    ) -> Result<Buf<u32>> {
        let mut words = vec![FILL; start.len() + 2 * GUARD];
        for (word, start) in words[GUARD..].iter_mut().zip(start) {
            *word = start.unwrap_or(FILL);
        }
        let guarded = self.gpu.upload(name, &words, Usage::Storage)?;
        let view = guarded.view(GUARD..GUARD + start.len());
        self.outputs.push(Output { name: name.to_owned(), guarded, len: start.len(), judge: Box::new(judge) });
        Ok(view)
    }

    fn output_f32(
        &mut self,
        name: &str,
        start: &[Option<u32>],
        cpu: Vec<Option<f64>>,
        t: Tolerance,
    ) -> Result<Buf<f32>> {
        let label = name.to_owned();
        let words =
            self.output_words(name, start, move |words| compare(&label, bytemuck::cast_slice(words), &cpu, t))?;
        Ok(words.reinterpret())
    }

    /// Activations that the kernel writes; the twin's values, `width` a row. The filling of a row must stay untouched.
    pub fn rows_out(&mut self, name: &str, cpu: &[f64], width: usize, tolerance: Tolerance) -> Result<Activation> {
        self.rows_out_at(name, cpu, (width, width), tolerance, |column| column)
    }

    /// [`Io::rows_out`] in another order.
    pub fn rows_out_order(
        &mut self,
        name: &str,
        cpu: &[f64],
        width: usize,
        tolerance: Tolerance,
        order: Order,
    ) -> Result<Activation> {
        let rows = self.rows_out_at(name, cpu, (width, width), tolerance, |column| order.place(column, width))?;
        Ok(rows.ordered(width, order))
    }

    /// [`Io::rows_out`] where a row is wider than its values, and each lies where `place` says.
    pub fn rows_out_at(
        &mut self,
        name: &str,
        cpu: &[f64],
        (width, room): (usize, usize),
        tolerance: Tolerance,
        place: impl Fn(usize) -> usize,
    ) -> Result<Activation> {
        let stride = room.next_multiple_of(super::ROW_ALIGN);
        let mut expected = vec![None; cpu.len() / width * stride];
        for (row, values) in expected.chunks_exact_mut(stride).zip(cpu.chunks_exact(width)) {
            for (column, value) in values.iter().enumerate() {
                row[place(column)] = Some(*value);
            }
        }
        let start = vec![None; expected.len()];
        let buf = self.output_f32(name, &start, expected, tolerance)?;
        Ok(Activation { buf, width: room, stride, order: Order::Plain })
    }

    /// A buffer without rows that the kernel writes; `None` in the twin's values must stay untouched.
    pub fn output(&mut self, name: &str, cpu: Vec<Option<f64>>, tolerance: Tolerance) -> Result<Buf<f32>> {
        let start = vec![None; cpu.len()];
        self.output_f32(name, &start, cpu, tolerance)
    }

    /// A buffer that the kernel reads and writes: what it holds before, and the twin's values after.
    pub fn in_out(&mut self, name: &str, before: &[f32], after: &[f64], tolerance: Tolerance) -> Result<Buf<f32>> {
        let start: Vec<_> = before.iter().map(|v| Some(v.to_bits())).collect();
        self.output_f32(name, &start, after.iter().map(|v| Some(*v)).collect(), tolerance)
    }
}

/// Seeded random numbers for cases: splitmix64.
pub struct Random(u64);

impl Random {
    /// A generator of its own.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[low, high)`.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// `n` values, uniform in `[low, high)`.
    pub fn uniforms(&mut self, n: usize, low: f32, high: f32) -> Vec<f32> {
        (0..n).map(|_| self.uniform(low, high)).collect()
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }
}

/// Widened for a twin.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Tolerance = Tolerance { nmse: 1e-12, abs: 1e-6, rel: 0.0 };

    #[test]
    fn compare_finds_each_kind_of_fault() {
        let cpu = [Some(1.0), Some(2.0), None];
        let fill = f32::from_bits(FILL);
        assert!(compare("y", &[1.0, 2.0, fill], &cpu, T).is_ok());
        assert!(matches!(compare("y", &[1.0, fill, fill], &cpu, T), Err(Fault::Unwritten { at: 1, .. })));
        assert!(matches!(compare("y", &[1.0, f32::NAN, fill], &cpu, T), Err(Fault::NotFinite { at: 1, .. })));
        assert!(matches!(compare("y", &[1.0, 2.1, fill], &cpu, T), Err(Fault::Far { at: 1, .. })));
        assert!(matches!(compare("y", &[1.0, 2.0, 0.0], &cpu, T), Err(Fault::Stray { at: 2, .. })));
        let many = [Some(1e-3); 8];
        assert!(matches!(compare("y", &[1.0009e-3; 8], &many, T), Err(Fault::Nmse { .. })));
        assert!(matches!(compare("y", &[f32::NAN], &[Some(f64::NAN)], T), Err(Fault::Far { .. })));
    }
}
