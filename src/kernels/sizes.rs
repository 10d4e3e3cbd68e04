//! Sizes as shaders and costs take them.

/// A size as shaders take it. Shapes are bounded when a config is read.
pub fn size(n: usize) -> u32 {
    u32::try_from(n).expect("shapes are bounded when a config is read")
}

/// Bytes of so many f32.
pub fn floats(n: usize) -> usize {
    n * size_of::<f32>()
}
