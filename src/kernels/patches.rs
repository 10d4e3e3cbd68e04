//! Cuts pictures into patches: the input of the product that embeds them (Dosovitskiy et al., "An Image is Worth 16x16 Words",
//! 2020, section 3.1). A convolution with this product's weights and step makes the same values.

use super::activation::Activation;
use super::batch::Batch;
use super::case::{Case, Tolerance};
use super::parts::{BATCH, file};
use super::pictures::Pictures;
use super::sizes::{floats, size};
use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, KernelDef, Plan, Usage, params, wgsl};

params! {
    /// Parameters.
    pub struct Params {
        /// Width of a picture in pixels.
        width: u32,
        /// Height of a picture in pixels.
        height: u32,
        /// Side of a patch.
        side: u32,
        /// Pixels from one patch to the next.
        step: u32,
        /// Patches in a row of a picture.
        across: u32,
        /// Row of the class token among those of a picture.
        class_at: u32,
        /// Channels x patch x patch.
        columns: u32,
        /// Floats from one row of y to the next.
        stride: u32,
    }
}

const LANES: u32 = 64;

fn def() -> KernelDef {
    let bindings =
        vec![Params::binding("params"), Batch::binding("batch"), Binding::read("pixels"), Binding::write("y")];
    KernelDef::new("patches", vec![BATCH, file(wgsl!("patches.wgsl"))], bindings).overrides(&[("WG", LANES)])
}

/// How pictures of one size are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patches {
    /// Width of a picture in pixels.
    pub width: usize,
    /// Height of a picture in pixels.
    pub height: usize,
    /// Channels.
    pub channels: usize,
    /// Side of a patch, P.
    pub patch: usize,
    /// Pixels from one patch to the next.
    pub step: usize,
    /// Row of the class token among those of a picture; patches keep their order around it.
    pub class_at: usize,
}

impl Patches {
    /// Patches across and down a picture.
    pub fn across_and_down(&self) -> [usize; 2] {
        [self.width, self.height].map(|side| if side < self.patch { 0 } else { (side - self.patch) / self.step + 1 })
    }

    /// Rows of a picture: its patches and the class token.
    pub fn tokens(&self) -> usize {
        let [across, down] = self.across_and_down();
        across * down + 1
    }

    /// Values of a patch.
    pub fn columns(&self) -> usize {
        self.channels * self.patch * self.patch
    }

    /// Values of a picture.
    pub fn values(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Records the rows of the batch's pictures. `pixels` is `[picture, channel, height, width]`.
    pub fn record(
        &self,
        plan: &mut Plan,
        label: &str,
        (pixels, y): (&Buf<f32>, &Activation),
        batch: &Buf<Batch>,
    ) -> Result<()> {
        assert_eq!(y.width, self.columns(), "{label}: y has the width of a patch");
        let params = Params {
            width: size(self.width),
            height: size(self.height),
            side: size(self.patch),
            step: size(self.step),
            across: size(self.across_and_down()[0]),
            class_at: size(self.class_at),
            columns: size(self.columns()),
            stride: size(y.stride),
        };
        let params = plan.gpu().upload("patches params", &[params], Usage::Uniform)?;
        let bound =
            [("params", params.bind()), ("batch", batch.bind()), ("pixels", pixels.bind()), ("y", y.buf.bind())];
        let cost = Cost { row_bytes: 2 * floats(self.columns()) as u64, ..Cost::default() };
        plan.dispatch(&def(), label, &bound, [Count::of(self.columns(), LANES), Count::Rows(1)], cost)
    }

    /// The twin: rows `[pictures * tokens, columns]`.
    pub fn cpu(&self, pixels: &[f32]) -> Vec<f64> {
        let [across, down] = self.across_and_down();
        let mut rows = Vec::new();
        for picture in pixels.chunks_exact(self.values()) {
            let mut of_picture: Vec<Vec<f64>> = Vec::new();
            for (top, left) in (0..down).flat_map(|y| (0..across).map(move |x| (y * self.step, x * self.step))) {
                let lines = picture
                    .chunks_exact(self.height * self.width)
                    .flat_map(|plane| plane.chunks_exact(self.width).skip(top).take(self.patch));
                of_picture.push(lines.flat_map(|line| &line[left..][..self.patch]).map(|v| f64::from(*v)).collect());
            }
            of_picture.insert(self.class_at, vec![0.0; self.columns()]);
            rows.extend(of_picture.into_iter().flatten());
        }
        rows
    }
}

pub(super) fn defs() -> Vec<KernelDef> {
    vec![def()]
}

/// Values are copied.
const TOLERANCE: Tolerance = Tolerance { nmse: 0.0, abs: 0.0, rel: 0.0 };

pub(super) fn cases() -> Vec<Case> {
    let patches =
        |width, height, channels, patch, step, class_at| Patches { width, height, channels, patch, step, class_at };
    let shapes = [
        (1, patches(4, 4, 3, 4, 4, 0)),
        (2, patches(12, 8, 3, 4, 4, 3)),
        (3, patches(11, 9, 1, 3, 2, 10)),
        (2, patches(48, 48, 3, 16, 8, 12)),
    ];
    let case = |(most, patches): (usize, Patches)| {
        let Patches { width, height, channels, patch, step, class_at } = patches;
        let shape = format!("{most} of {channels}x{height}x{width} by {patch} every {step}, class at {class_at}");
        Case::new("patches", shape, move |io| {
            let pixels = io.random.uniforms(most * patches.values(), -2.0, 2.0);
            let pictures = Pictures { tokens: patches.tokens(), most };
            io.rows = pictures.rows();
            let y = io.rows_out("y", &patches.cpu(&pixels), patches.columns(), TOLERANCE)?;
            let pixels = io.input("pixels", &pixels)?;
            let batch = io.uniform(pictures.batch(most))?;
            patches.record(&mut io.plan, "y", (&pixels, &y), &batch)
        })
    };
    shapes.into_iter().map(case).collect()
}
