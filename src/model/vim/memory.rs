//! The memory plan of a Vision Mamba: device memory for a resolution and batch, computed before anything is allocated.

use super::Vim;
use super::scratch::Scratch;
use super::tensors::VimTensors;
use crate::error::{Error, Result};
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Caps, Gpu};
use crate::kernels::pictures::Pictures;
use crate::kernels::scan::{MOST_SEGMENTS, segments_for};
use crate::kernels::{DIRECTIONS, floats, stride};
use crate::model::memory::Bytes;
use crate::model::recipe::{Recipe, Role};
use std::fmt;

/// Bytes on the device by their use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VimMemory {
    /// Weights, in the formats of the recipe.
    pub weights: u64,
    /// Activations and positions of a batch.
    pub activations: u64,
    /// Pictures of a batch.
    pub batch: usize,
    /// Height and width of the pictures.
    pub image: [usize; 2],
}

impl VimMemory {
    /// Total bytes on the device.
    pub fn total(&self) -> u64 {
        self.weights + self.activations
    }
}

impl fmt::Display for VimMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [total, weights, activations] = [self.total(), self.weights, self.activations].map(Bytes);
        let (batch, [height, width]) = (self.batch, self.image);
        let pictures = if batch == 1 { "1 picture".to_owned() } else { format!("{batch} pictures") };
        write!(
            f,
            "{total} of GPU memory (weights {weights}, activations {activations} for {pictures} of {height}x{width})"
        )
    }
}

impl Vim {
    /// Bytes of the weights of these tensors on the device.
    pub fn weight_bytes(&self, tensors: &VimTensors<'_>, recipe: Recipe) -> u64 {
        let matrix = |role: Role, tensor: &Tensor<'_>| {
            let format = recipe.format(role, tensor.held_as(), tensor.columns());
            (tensor.rows() * format.device_row_bytes(tensor.columns())) as u64
        };
        let of_layers = tensors.layers.iter().map(|layer| {
            let directions = layer.directions.iter().flat_map(|direction| [&direction.x_proj, &direction.dt_proj]);
            let matrices = [&layer.in_proj, &layer.out_proj].into_iter().chain(directions);
            matrices.map(|tensor| matrix(Role::Projection, tensor)).sum::<u64>()
        });
        let head = tensors.head.as_ref().map_or(0, |[weight, _]| matrix(Role::Head, weight));
        matrix(Role::Projection, &tensors.patch_embed) + of_layers.sum::<u64>() + head + self.vector_bytes()
    }

    /// The same for made-up weights of this shape.
    pub fn made_up_bytes(&self, format: WeightFormat) -> u64 {
        let recipe = Recipe::To(format);
        let matrix = |role: Role, [rows, columns]: [usize; 2]| {
            (rows * recipe.format(role, WeightFormat::F32, columns).device_row_bytes(columns)) as u64
        };
        let layer: u64 = self.layer_matrices().iter().map(|shape| matrix(Role::Projection, *shape)).sum();
        let patch_embed = matrix(Role::Projection, [self.hidden, self.patches(self.image).columns()]);
        layer * self.layers as u64 + patch_embed + matrix(Role::Head, [self.classes, self.hidden]) + self.vector_bytes()
    }

    /// Bytes of vectors: norms, biases, taps, A with the skip D.
    fn vector_bytes(&self) -> u64 {
        let of_channels = DIRECTIONS * self.inner * (self.conv_kernel + 1 + self.state + 1);
        let layer = stride(self.hidden) + DIRECTIONS * stride(self.inner) + of_channels;
        floats(layer * self.layers + stride(self.hidden) + stride(self.classes)) as u64
    }

    /// Bytes of a batch's activations and positions.
    pub fn activation_bytes(&self, caps: &Caps, image: [usize; 2], batch: usize) -> u64 {
        let pictures = Pictures { tokens: self.patches(image).tokens(), most: batch };
        let positions = floats(pictures.tokens * stride(self.hidden)) as u64;
        Scratch::bytes(self, image, pictures, self.segments(caps, pictures.tokens)) + positions
    }

    /// Segments of a scan: the same for every batch, so that a picture has the same bits in each.
    pub(super) fn segments(&self, caps: &Caps, tokens: usize) -> usize {
        segments_for(caps, DIRECTIONS * self.inner, self.state, tokens).min(MOST_SEGMENTS)
    }

    /// Most pictures of a batch that the adapter can run at once, whatever its memory; 0 if not even one.
    pub fn most_pictures(&self, caps: &Caps, image: [usize; 2]) -> usize {
        let tokens = self.patches(image).tokens();
        let rows = caps.max_groups as usize / tokens;
        let fits = |most: &usize| Scratch::largest(self, image, Pictures { tokens, most: *most }) <= caps.span_limit();
        (0..rows).map(|n| rows - n).find(fits).unwrap_or(0)
    }

    /// Whether the adapter can run a batch at once, in `room` bytes where that is known.
    pub fn fits(&self, caps: &Caps, weights: u64, (image, batch): ([usize; 2], usize), room: Option<u64>) -> bool {
        let total = || weights + self.activation_bytes(caps, image, batch);
        batch <= self.most_pictures(caps, image) && room.is_none_or(|room| total() <= room)
    }

    /// The plan for a batch on this device, whose room for it is `room` bytes where that is known; the error says what fits.
    pub fn memory(
        &self,
        gpu: &Gpu,
        weights: u64,
        (image, batch): ([usize; 2], usize),
        room: Option<u64>,
    ) -> Result<VimMemory> {
        let [height, width] = image;
        let cut = self.patches(image);
        if cut.across_and_down().contains(&0) {
            return Err(Error::BadSetting {
                name: "image",
                value: format!("{height}x{width}"),
                problem: "a picture must be at least as large as a patch",
            });
        }
        let fits = |batch, image| self.fits(gpu.caps(), weights, (image, batch), room);
        let wanted = VimMemory { weights, activations: self.activation_bytes(gpu.caps(), image, batch), batch, image };
        if fits(batch, image) {
            return Ok(wanted);
        }
        let fewer = (1..batch).rev().find(|batch| fits(*batch, image));
        let advice = match fewer {
            Some(fewer) => format!("{fewer} of them at once fit: try --batch {fewer}"),
            None => {
                let side = (1..=height.max(width) / self.step).rev().map(|n| n * self.step);
                match side.filter(|side| *side >= self.patch).find(|side| fits(1, [*side; 2])) {
                    Some(side) => format!("one picture of {side}x{side} fits"),
                    None => "not even a small picture fits: try another device".to_owned(),
                }
            }
        };
        let why = match room {
            Some(room) if wanted.total() > room => format!("{} are free for it", Bytes(room)),
            _ => format!(
                "this adapter runs at most {} pictures of {height}x{width} at once",
                self.most_pictures(gpu.caps(), image)
            ),
        };
        Err(Error::DoesNotFit { needed: wanted.total(), plan: wanted.to_string(), why, advice })
    }
}
