//! Vision Mamba (Zhu et al., 2024, <https://arxiv.org/abs/2401.09417>): a picture's patches as a sequence, with a class token,
//! through layers that each run a Mamba-1 mixer in both directions.

mod forward;
mod json;
mod memory;
mod positions;
mod scratch;
mod shapes;
mod tensors;
#[cfg(test)]
mod tests;
mod weights;

pub use forward::{VimForward, VimTap};
pub use memory::VimMemory;
pub use shapes::VIM_SHAPES;
pub use tensors::VimTensors;
pub use weights::VimWeights;

use crate::kernels::DIRECTIONS;
use crate::kernels::dbc_norm::DbcLayout;
use crate::kernels::patches::Patches;
use crate::kernels::variants::Sizes;

/// Sizes and constants of a Vision Mamba. The letters are those of the papers.
#[derive(Debug, Clone, PartialEq)]
pub struct Vim {
    /// Height and width in pixels of the pictures that the positions were trained for.
    pub image: [usize; 2],
    /// Channels of a picture.
    pub channels: usize,
    /// Side of a patch, P.
    pub patch: usize,
    /// Pixels from one patch to the next.
    pub step: usize,
    /// Width of the residual stream, E.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Channels of a mixer, D.
    pub inner: usize,
    /// States of a channel, N.
    pub state: usize,
    /// Width of dt before dt_proj, R.
    pub dt_rank: usize,
    /// Taps of the convolution, K.
    pub conv_kernel: usize,
    /// Classes; 0 where the model has no head.
    pub classes: usize,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// The class token is in the middle of the patches; else before them.
    pub class_in_middle: bool,
    /// The sum of the two directions is halved.
    pub halved: bool,
    /// Names of the classes, in order; empty where the config has none.
    pub labels: Vec<String>,
}

impl Vim {
    /// How pictures of a height and width are cut. Without a patch in them it has only the class token.
    pub fn patches(&self, [height, width]: [usize; 2]) -> Patches {
        let patches =
            Patches { width, height, channels: self.channels, patch: self.patch, step: self.step, class_at: 0 };
        let class_at = if self.class_in_middle { (patches.tokens() - 1) / 2 } else { 0 };
        Patches { class_at, ..patches }
    }

    /// Rows of x_proj: dt, B and C.
    fn x_proj_rows(&self) -> usize {
        self.dt_rank + 2 * self.state
    }

    fn dbc_layout(&self) -> DbcLayout {
        DbcLayout { dt_rank: self.dt_rank, state: self.state }
    }

    /// Rows and columns of the matrices of a layer: in_proj, then x_proj and dt_proj of each direction, then out_proj.
    fn layer_matrices(&self) -> [[usize; 2]; 6] {
        let (d, r) = (self.inner, self.dt_rank);
        let [x_proj, dt_proj] = [[self.x_proj_rows(), d], [d, r]];
        [[2 * d, self.hidden], x_proj, dt_proj, x_proj, dt_proj, [self.hidden, d]]
    }

    /// The sizes that forms of kernels are chosen by: both directions are channels of one scan.
    pub fn kernel_sizes(&self) -> Sizes {
        Sizes { matrices: vec![], by_groups: true, channels: DIRECTIONS * self.inner, states: self.state }
    }

    /// Parameters.
    pub fn parameters(&self) -> usize {
        let matrices: usize = self.layer_matrices().iter().map(|[rows, columns]| rows * columns).sum();
        // Of a channel in one direction: taps and their bias, the bias of dt, A, and the skip D.
        let of_channel = self.conv_kernel + 2 + self.state + 1;
        let layer = self.hidden + matrices + 2 * self.inner * of_channel;
        let patches = self.patches(self.image);
        let ends = self.hidden * (patches.columns() + 1 + 1 + patches.tokens() + 1) + self.classes * (self.hidden + 1);
        layer * self.layers + ends
    }
}
