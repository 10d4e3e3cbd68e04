//! Classes of arithmetic of products.

/// Class of arithmetic of products.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Math {
    /// f32. Cooperative matrices split values that f16 cannot hold into two.
    #[default]
    Exact,
    /// x is rounded: in decode steps to int8 in groups of 32 values, if weights are multiples of codes; in prefill to f16, if
    /// cooperative matrices are used. Accumulators are f32.
    Fast,
}

impl std::fmt::Display for Math {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Math::Exact => "exact",
            Math::Fast => "fast",
        })
    }
}
