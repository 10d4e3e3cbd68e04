//! Positions of patches at other resolutions than the trained one.

use super::Vim;

/// Coefficient of the cubic, as PyTorch's bicubic interpolation has it.
const A: f64 = -0.75;

/// Weights of the four values around a place `x` (0 to 1) after the second (Keys, "Cubic Convolution Interpolation for Digital
/// Image Processing", 1981).
fn cubic(x: f64) -> [f64; 4] {
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(x + 1.0), near(x), near(1.0 - x), far(2.0 - x)]
}

/// For each of `to` places along a side of `from`: the four places that it is made of, and their weights. As `interpolate` of
/// PyTorch with mode bicubic, no aligned corners and no antialiasing, which is what the released models' tools use.
fn along(from: usize, to: usize) -> Vec<([usize; 4], [f64; 4])> {
    let scale = from as f64 / to as f64;
    let last = from as isize - 1;
    let place = |i: usize| {
        let at = (i as f64 + 0.5) * scale - 0.5;
        let first = at.floor() as isize - 1;
        (std::array::from_fn(|k| (first + k as isize).clamp(0, last) as usize), cubic(at - at.floor()))
    };
    (0..to).map(place).collect()
}

/// The grid `[down, across, width]` at another size.
fn resized(grid: &[f32], [down, across]: [usize; 2], [to_down, to_across]: [usize; 2], width: usize) -> Vec<f32> {
    let (rows, columns) = (along(down, to_down), along(across, to_across));
    let mut out = Vec::with_capacity(to_down * to_across * width);
    for (ys, y_weights) in &rows {
        for (xs, x_weights) in &columns {
            for e in 0..width {
                let line = |y: usize| -> f64 {
                    let value = |x: usize| f64::from(grid[(y * across + x) * width + e]);
                    xs.iter().zip(x_weights).map(|(x, weight)| value(*x) * weight).sum()
                };
                out.push(ys.iter().zip(y_weights).map(|(y, weight)| line(*y) * weight).sum::<f64>() as f32);
            }
        }
    }
    out
}

impl Vim {
    /// Positions `[tokens, E]` for pictures of a height and width, from the trained `[tokens, E]`. The class token keeps its own.
    pub(super) fn positions(&self, trained: &[f32], image: [usize; 2]) -> Vec<f32> {
        let (from, to) = (self.patches(self.image), self.patches(image));
        let [from_grid, to_grid] = [from, to].map(|patches| {
            let [across, down] = patches.across_and_down();
            [down, across]
        });
        if from_grid == to_grid {
            return trained.to_vec();
        }
        let mut grid = trained.to_vec();
        let class: Vec<f32> = grid.drain(from.class_at * self.hidden..(from.class_at + 1) * self.hidden).collect();
        let mut all = resized(&grid, from_grid, to_grid, self.hidden);
        let at = to.class_at * self.hidden;
        all.splice(at..at, class);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_reproduce_straight_lines() {
        for i in 0..=10 {
            let x = f64::from(i) / 10.0;
            let weights = cubic(x);
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{x}: {weights:?}");
        }
        assert_eq!(cubic(0.0), [0.0, 1.0, 0.0, 0.0]);
        // In the middle: -3/32, 19/32, 19/32, -3/32 for a = -0.75.
        assert_eq!(cubic(0.5), [-0.09375, 0.59375, 0.59375, -0.09375]);
    }

    /// Doubling [0, 1, 2, 3]: places -0.25, 0.25, ..., with the ends repeated. By hand for the first two.
    #[test]
    fn a_line_is_doubled_as_by_hand() {
        let doubled = resized(&[0.0, 1.0, 2.0, 3.0], [1, 4], [1, 8], 1);
        // Place -0.25: values 0, 0, 0, 1 with weights at 0.75; place 0.25: 0, 0, 1, 2 with weights at 0.25.
        let [at_three_quarters, at_a_quarter] = [cubic(0.75), cubic(0.25)];
        let by_hand = [at_three_quarters[3], at_a_quarter[2] + 2.0 * at_a_quarter[3]];
        for (got, wanted) in doubled.iter().zip(by_hand) {
            assert!((f64::from(*got) - wanted).abs() < 1e-6, "{doubled:?} {by_hand:?}");
        }
        let mirrored: Vec<f32> = doubled.iter().rev().map(|v| 3.0 - v).collect();
        assert!(doubled.iter().zip(&mirrored).all(|(a, b)| (a - b).abs() < 1e-6), "{doubled:?}");
    }

    #[test]
    fn the_class_token_keeps_its_position_and_the_trained_size_its_bits() {
        let vim = Vim { hidden: 1, image: [32; 2], ..Vim::named("vim-tiny").unwrap() };
        let trained = [1.0, 2.0, 9.0, 3.0, 4.0];
        assert_eq!(vim.positions(&trained, [32; 2]), trained);
        let larger = vim.positions(&trained, [48, 64]);
        assert_eq!(larger.len(), 13);
        assert_eq!(larger[6], 9.0);
        assert!(larger.iter().filter(|v| **v == 9.0).count() == 1 && larger.iter().all(|v| (0.5..=9.0).contains(v)));
    }
}
