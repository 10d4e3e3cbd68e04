//! Activation functions of the twins; `shaders/lib/math.wgsl` has those of the kernels.

/// log(1 + e^v).
pub fn softplus(v: f64) -> f64 {
    v.max(0.0) + (-v.abs()).exp().ln_1p()
}

/// v / (1 + e^-v).
pub fn silu(v: f64) -> f64 {
    v / (1.0 + (-v).exp())
}
