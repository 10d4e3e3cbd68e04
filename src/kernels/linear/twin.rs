//! The CPU twin of a product, and how far a kernel may differ from it.

use super::math::Math;
use super::matmul;
use super::product::Product;
use crate::kernels::case::Tolerance;

/// The twin: `[tokens, rows]` from x `[tokens, columns]` and W `[rows, columns]`.
pub fn cpu(x: &[f64], w: &[f32], columns: usize) -> Vec<f64> {
    x.chunks_exact(columns)
        .flat_map(|x| {
            w.chunks_exact(columns).map(move |w| w.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>())
        })
        .collect()
}

/// The twin of [`super::Epilogue::Slices`]: `[slices][tokens, rows]`, where a slice has `depth` values of k.
pub(super) fn cpu_sliced(x: &[f64], w: &[f32], columns: usize, (slices, depth): (u32, usize)) -> Vec<f64> {
    let of_slice = |slice: usize| {
        let own = slice * depth..(slice + 1) * depth;
        let x: Vec<f64> = (0..).zip(x).map(|(i, x)| if own.contains(&(i % columns)) { *x } else { 0.0 }).collect();
        cpu(&x, w, columns)
    };
    (0..slices as usize).flat_map(of_slice).collect()
}

/// f32 sums of a few thousand products of order 1, also by cooperative matrices with split values. Worst measured on four
/// drivers: nmse 4.7e-14, 0.34 of the bound.
pub(super) const TOLERANCE: Tolerance = Tolerance { nmse: 1e-12, abs: 2e-5, rel: 2e-6 };

/// x and W rounded to f16, and 129 products of order 1 summed up. Worst measured on one driver: nmse 7.1e-8, 0.62 of the bound.
const FAST: Tolerance = Tolerance { nmse: 3e-7, abs: 6e-3, rel: 1e-3 };

/// Whether x is rounded to f16. If x is int8, the twin uses the rounded values too.
pub(super) fn fast(product: Product) -> bool {
    matches!(product, Product::Matmul(matmul::MatmulVariant::Coop(_, Math::Fast, _)))
}

/// Allowed difference of a product from the twin.
pub(crate) fn tolerance(product: Product, columns: usize) -> Tolerance {
    // Accumulated rounding grows with the square root of the number of terms.
    let more = (columns as f64 / 129.0).max(1.0);
    match product {
        _ if fast(product) => Tolerance { abs: FAST.abs * more.sqrt(), ..FAST },
        // Matrix units may truncate their sums instead of rounding.
        Product::Matmul(matmul::MatmulVariant::Coop(..)) => {
            Tolerance { nmse: TOLERANCE.nmse * more, abs: TOLERANCE.abs * more.sqrt(), ..TOLERANCE }
        }
        _ => TOLERANCE,
    }
}
