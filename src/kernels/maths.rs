//! Activation functions of the twins; `shaders/lib/math.wgsl` has those of the kernels.

/// log(1 + e^v).
pub fn softplus(v: f64) -> f64 {
    v.max(0.0) + (-v.abs()).exp().ln_1p()
}

/// v / (1 + e^-v).
pub fn silu(v: f64) -> f64 {
    v / (1.0 + (-v).exp())
}

/// v * Phi(v), with the normal distribution Phi(v) = (1 + erf(v / sqrt(2))) / 2 (Hendrycks and Gimpel, 2016).
pub fn gelu(v: f64) -> f64 {
    0.5 * v * (1.0 + erf(v / std::f64::consts::SQRT_2))
}

/// The error function: its series 2 / sqrt(pi) * exp(-u^2) * sum of 2^n u^(2n+1) / (1 * 3 * ... (2n+1)), whose terms have one sign.
fn erf(u: f64) -> f64 {
    if u.abs() > 6.0 {
        return u.signum();
    }
    let (mut term, mut sum) = (u, u);
    for n in 1..200 {
        term *= 2.0 * u * u / f64::from(2 * n + 1);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-u * u).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_has_its_tabulated_values() {
        // Abramowitz and Stegun, table 7.1.
        for (u, value) in [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)] {
            assert!((erf(u) - value).abs() < 1e-10 && (erf(-u) + value).abs() < 1e-10, "{u}: {}", erf(u));
        }
        assert!((erf(5.9) - 1.0).abs() < 1e-15, "{}", erf(5.9));
        assert_eq!(erf(7.0), 1.0);
    }

    /// The polynomial of `shaders/lib/math.wgsl`, in f64: its own error, without rounding.
    #[test]
    fn the_shaders_gelu_is_within_its_stated_error() {
        let form = |v: f64| {
            let u = v.abs() / std::f64::consts::SQRT_2;
            let t = 1.0 / (1.0 + 0.327_591_1 * u);
            let p = t
                * (0.254_829_592
                    + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
            v.max(0.0) - 0.5 * v.abs() * p * (-u * u).exp()
        };
        let errors = (-12_000..=12_000).map(|i| f64::from(i) / 1000.0).map(|v| (form(v) - gelu(v)).abs());
        let worst = errors.fold(0.0, f64::max);
        assert!((1e-9..1.5e-7).contains(&worst), "{worst:e}");
    }
}
