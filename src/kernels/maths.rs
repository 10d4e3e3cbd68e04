//! Functions that kernels and their twins share.

/// log(1 + e^v), as the kernels mean it.
pub fn softplus(v: f64) -> f64 {
    v.max(0.0) + (-v.abs()).exp().ln_1p()
}

/// v / (1 + e^-v), as the kernels mean it.
pub fn silu(v: f64) -> f64 {
    v / (1.0 + (-v).exp())
}
