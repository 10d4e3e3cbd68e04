//! Comparison of device results with the twin's values.

/// Initial words of an output: a NaN that no arithmetic produces.
pub(in crate::kernels) const FILL: u32 = 0x7fa5_c3e1;

/// Allowed difference between device and twin: |gpu - twin| <= abs + rel |twin| for each value, and the mean square error.
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

/// Errors of a comparison that passed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reached {
    /// Normalized mean square error.
    pub nmse: f64,
    /// Largest absolute error.
    pub max_abs: f64,
    /// Largest error as a share of the twin's value.
    pub max_rel: f64,
    /// Largest error as a share of the allowed one.
    pub share: f64,
}

impl Reached {
    /// The worse of each.
    #[must_use]
    pub fn worst(self, other: Reached) -> Reached {
        Reached {
            nmse: self.nmse.max(other.nmse),
            max_abs: self.max_abs.max(other.max_abs),
            max_rel: self.max_rel.max(other.max_rel),
            share: self.share.max(other.share),
        }
    }
}

/// Why a comparison failed: the output, the index in it, and both values.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the summary above names the fields")]
pub enum Mismatch {
    /// A value that the kernel should write still holds the fill.
    Unwritten { output: String, at: usize },
    /// A word that the kernel must not write has changed.
    Stray { output: String, at: isize },
    /// A computed value is NaN or infinite.
    NotFinite { output: String, at: usize, cpu: f64 },
    /// A value is too far from the twin's.
    Far { output: String, at: usize, gpu: f64, cpu: f64, allowed: f64 },
    /// Each value is within its bound, but the mean square error is too large.
    Nmse { output: String, nmse: f64, allowed: f64 },
    /// A word differs from the twin's.
    Word { output: String, at: usize, gpu: u32, cpu: u32 },
    /// The output breaks a law.
    Broken { output: String, why: String },
    /// The selected token is not one that the sampling parameters allow.
    Token { output: String, why: String },
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mismatch::Unwritten { output, at } => write!(f, "{output}[{at}] was never written"),
            Mismatch::Stray { output, at } => write!(f, "{output}[{at}] was written, but is out of range"),
            Mismatch::NotFinite { output, at, cpu } => write!(f, "{output}[{at}] is not finite, the twin has {cpu:e}"),
            Mismatch::Far { output, at, gpu, cpu, allowed } => {
                write!(
                    f,
                    "{output}[{at}] gpu {gpu:e} cpu {cpu:e}, off by {:e} (allowed {allowed:e})",
                    (gpu - cpu).abs()
                )
            }
            Mismatch::Nmse { output, nmse, allowed } => write!(f, "{output}: nmse {nmse:e} (allowed {allowed:e})"),
            Mismatch::Word { output, at, gpu, cpu } => write!(f, "{output}[{at}] gpu {gpu:#010x} cpu {cpu:#010x}"),
            Mismatch::Broken { output, why } | Mismatch::Token { output, why } => write!(f, "{output}: {why}"),
        }
    }
}

/// Compares one output with the twin's values. `None` marks words that must still hold the fill.
pub fn compare(output: &str, gpu: &[f32], cpu: &[Option<f64>], tolerance: Tolerance) -> Result<Reached, Mismatch> {
    assert_eq!(gpu.len(), cpu.len(), "{output}: the twin has another size");
    let output = || output.to_owned();
    let mut reached = Reached::default();
    let (mut errors, mut squares, mut judged) = (0.0, 0.0, 0);
    for (at, (value, expected)) in gpu.iter().zip(cpu).enumerate() {
        let Some(expected) = *expected else {
            if value.to_bits() != FILL {
                return Err(Mismatch::Stray { output: output(), at: isize::try_from(at).unwrap_or(isize::MAX) });
            }
            continue;
        };
        if value.to_bits() == FILL {
            return Err(Mismatch::Unwritten { output: output(), at });
        }
        if !value.is_finite() && expected.is_finite() {
            return Err(Mismatch::NotFinite { output: output(), at, cpu: expected });
        }
        let error = (f64::from(*value) - expected).abs();
        let allowed = tolerance.abs + tolerance.rel * expected.abs();
        if error.is_nan() || error > allowed {
            return Err(Mismatch::Far { output: output(), at, gpu: f64::from(*value), cpu: expected, allowed });
        }
        reached.max_abs = reached.max_abs.max(error);
        if error > 0.0 {
            reached.share = reached.share.max(error / allowed);
            // Of a zero there is no share.
            reached.max_rel = reached.max_rel.max(if expected == 0.0 { 0.0 } else { error / expected.abs() });
        }
        errors += error * error;
        squares += expected * expected;
        judged += 1;
    }
    // A mean over a few values says nothing: one that cancels to almost zero would dominate it.
    reached.nmse = if errors == 0.0 || judged < 8 { 0.0 } else { errors / squares };
    if reached.nmse > tolerance.nmse {
        return Err(Mismatch::Nmse { output: output(), nmse: reached.nmse, allowed: tolerance.nmse });
    }
    Ok(reached)
}

/// Compares an output with the twin's words, bit for bit.
pub fn compare_words(output: &str, gpu: &[u32], cpu: &[u32]) -> Result<Reached, Mismatch> {
    assert_eq!(gpu.len(), cpu.len(), "{output}: the twin has another size");
    let output = || output.to_owned();
    match gpu.iter().zip(cpu).position(|(gpu, cpu)| gpu != cpu) {
        None => Ok(Reached::default()),
        Some(at) if gpu[at] == FILL => Err(Mismatch::Unwritten { output: output(), at }),
        Some(at) => Err(Mismatch::Word { output: output(), at, gpu: gpu[at], cpu: cpu[at] }),
    }
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
        assert!(matches!(compare("y", &[1.0, fill, fill], &cpu, T), Err(Mismatch::Unwritten { at: 1, .. })));
        assert!(matches!(compare("y", &[1.0, f32::NAN, fill], &cpu, T), Err(Mismatch::NotFinite { at: 1, .. })));
        assert!(matches!(compare("y", &[1.0, 2.1, fill], &cpu, T), Err(Mismatch::Far { at: 1, .. })));
        assert!(matches!(compare("y", &[1.0, 2.0, 0.0], &cpu, T), Err(Mismatch::Stray { at: 2, .. })));
        let many = [Some(1e-3); 8];
        assert!(matches!(compare("y", &[1.0009e-3; 8], &many, T), Err(Mismatch::Nmse { .. })));
        assert!(matches!(compare("y", &[f32::NAN], &[Some(f64::NAN)], T), Err(Mismatch::Far { .. })));
        assert!(compare_words("y", &[1, 2], &[1, 2]).is_ok());
        assert!(matches!(compare_words("y", &[1, 3], &[1, 2]), Err(Mismatch::Word { at: 1, gpu: 3, cpu: 2, .. })));
        assert!(matches!(compare_words("y", &[FILL, 2], &[1, 2]), Err(Mismatch::Unwritten { at: 0, .. })));
    }
}
