//! Slices of k: where a prefill product has too few tiles to fill the adapter, several workgroups share the sum of one.

use super::matmul::MatmulVariant;
use super::product::Product;
use super::weights::{Linear, Matrix};
use crate::gpu::Caps;
use crate::kernels::sizes::size;

/// Tokens by which tiles are counted. The slices order a sum, so their number depends on adapter and matrix alone, never on the
/// tokens at hand.
const TOKENS: usize = 512;
/// Least values of k in a slice: starting and storing a tile takes as long as a few steps.
const LEAST_COLUMNS: usize = 256;
/// Most slices: the consumer reads the sums of each.
const MOST: usize = 16;

impl Product {
    /// Slices of k whose sums the consumer of a product adds, see [`super::Epilogue::Slices`]: at most `most`, 1 where that does not
    /// help.
    pub fn slices(self, caps: &Caps, matrix: &Linear, most: usize) -> u32 {
        match self {
            Product::Matvec(_) => 1,
            Product::Matmul(variant) => size(variant.slices(caps, matrix.matrix()).min(most).max(1)),
        }
    }
}

impl MatmulVariant {
    fn slices(self, caps: &Caps, matrix: Matrix) -> usize {
        let tiles = |variant: MatmulVariant| {
            let [tokens, rows] = variant.tile().map(|side| side as usize);
            matrix.rows.div_ceil(rows) * TOKENS.div_ceil(tokens)
        };
        let kernels = self.for_matrix(caps, matrix.format, matrix.rows).into_iter();
        let tiles = kernels.map(|(_, variant)| tiles(variant)).max().unwrap_or(1);
        let wanted = (caps.busy_groups as usize).div_ceil(tiles).min(MOST).next_power_of_two();
        wanted.min(matrix.columns / LEAST_COLUMNS)
    }

    /// Values of k in each of so many slices of a matrix but the last.
    pub(super) fn slice_depth(self, caps: &Caps, matrix: &Linear, slices: u32) -> usize {
        let unit = matrix.format().unit_values();
        let kernels = self.for_matrix(caps, matrix.format(), matrix.rows());
        let depth = kernels[0].1.depth(unit);
        (unit * matrix.format().row_units(matrix.columns())).div_ceil(depth).div_ceil(slices as usize) * depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::WeightFormat;
    use crate::gpu::Coop;
    use crate::kernels::linear::Math;

    #[test]
    fn long_products_with_few_tiles_are_cut_where_the_adapter_has_room() {
        let cpu = Caps::portable();
        let discrete = Caps { cpu: false, discrete: true, busy_groups: 512, ..Caps::portable() };
        let coop = Coop { size: 16, lanes: 32 };
        let of_coop = Caps { coop: Some(coop), workgroup_bytes: 48 << 10, max_lanes: 1024, ..discrete.clone() };
        let coop = MatmulVariant::Coop(coop, Math::Exact, None);
        let slices = |variant: MatmulVariant, caps: &Caps, [rows, columns]: [usize; 2]| {
            variant.slices(caps, Matrix { rows, columns, format: WeightFormat::Bf16 })
        };
        let tiled = MatmulVariant::Tiled { blocks: 2 };
        for (variant, caps, shape, expected) in [
            (tiled, &cpu, [288, 8192], 1),
            (tiled, &discrete, [288, 8192], 16),
            (coop, &of_coop, [288, 8192], 16),
            (coop, &of_coop, [80, 1536], 6),
            (coop, &of_coop, [16384, 4096], 1),
            (coop, &of_coop, [44, 384], 1),
        ] {
            assert_eq!(slices(variant, caps, shape), expected, "{variant} {shape:?}");
        }
    }

    #[test]
    fn a_matrix_is_cut_at_the_same_places_for_any_number_of_tokens() {
        let coop = Coop { size: 16, lanes: 32 };
        let caps = Caps { cpu: false, coop: Some(coop), ..Caps::portable() };
        for variant in MatmulVariant::all(&caps) {
            for rows in [100, 3000, 20000] {
                let kernels = variant.for_matrix(&caps, WeightFormat::Q4_0, rows);
                let depths: Vec<usize> = kernels.iter().map(|(_, kernel)| kernel.depth(32)).collect();
                assert!(depths.iter().all(|depth| *depth == depths[0]), "{variant} {rows} rows: {depths:?}");
            }
        }
    }
}
