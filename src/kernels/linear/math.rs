//! Classes of arithmetic.

/// How exact products are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Math {
    /// As f32. Where cooperative matrices make a product, values that f16 does not hold are cut in two.
    #[default]
    Exact,
    /// x is rounded: in decode steps to int8 by groups of 32 values, where weights are multiples of codes; in prefill to f16, where
    /// cooperative matrices make a product. Sums are f32.
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
