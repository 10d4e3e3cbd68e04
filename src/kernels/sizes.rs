//! Sizes for shaders and costs.

/// A size as u32, for shaders. Configs are checked when they are read, so that shapes fit.
pub fn size(n: usize) -> u32 {
    u32::try_from(n).expect("shapes are bounded when a config is read")
}

/// Bytes of `n` f32.
pub fn floats(n: usize) -> usize {
    n * size_of::<f32>()
}
