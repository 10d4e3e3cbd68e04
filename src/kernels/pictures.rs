//! Pictures as sequences of rows, each read in two directions by convolution and scan.

use super::activation::Activation;
use super::batch::Batch;
use super::sizes::size;
use crate::error::Result;
use crate::gpu::{Gpu, ShaderPart, wgsl};

/// Directions in which a picture is read: from its first row to its last, and back.
pub const DIRECTIONS: usize = 2;

/// What precedes the first token of a sequence of convolution and scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// The state of a slot, whose tokens are one sequence.
    State,
    /// Zeros, and nothing is kept: each picture is a sequence in either direction.
    Zero,
}

impl Before {
    /// The part that says which rows are a sequence.
    pub(super) fn rows(self) -> ShaderPart {
        ShaderPart::File(match self {
            Before::State => wgsl!("lib/rows_of_slot.wgsl"),
            Before::Zero => wgsl!("lib/rows_of_pictures.wgsl"),
        })
    }
}

/// A batch of pictures, `tokens` rows each. Activations that both directions share are `[rows, width]`; those with values of each
/// direction are `[direction][rows, width]`. Rows are in the pictures' order in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pictures {
    /// Rows of a picture.
    pub tokens: usize,
    /// Most pictures of a batch.
    pub most: usize,
}

impl Pictures {
    /// Rows of a full batch.
    pub fn rows(self) -> usize {
        self.tokens * self.most
    }

    /// Rows from the values of one direction to those of the other: even, so that with rows of whole units both begin at a
    /// multiple of 256 bytes, the largest alignment of a binding.
    pub fn direction_rows(self) -> usize {
        self.rows().next_multiple_of(2)
    }

    /// The batch of a run with this many pictures.
    pub fn batch(self, pictures: usize) -> Batch {
        Batch {
            rows: size(pictures * self.tokens),
            tokens: size(self.tokens),
            direction_rows: size(self.direction_rows()),
            ..Default::default()
        }
    }

    /// Zeroed activations of both directions.
    pub fn both(self, gpu: &Gpu, label: &str, width: usize) -> Result<Activation> {
        Activation::new(gpu, label, DIRECTIONS * self.direction_rows(), width)
    }

    /// The rows of one direction of such activations.
    pub fn one(self, both: &Activation, direction: usize) -> Activation {
        let first = direction * self.direction_rows() * both.stride;
        Activation { buf: both.buf.view(first..first + self.rows() * both.stride), ..both.clone() }
    }
}

// The twins.
impl Pictures {
    /// The rows of a picture, `width` values each, in the order of a direction.
    pub fn sequence<T: Copy>(self, values: &[T], width: usize, picture: usize, direction: usize) -> Vec<T> {
        let rows = values[picture * self.tokens * width..][..self.tokens * width].chunks_exact(width);
        if direction == 0 { rows.flatten().copied().collect() } else { rows.rev().flatten().copied().collect() }
    }

    /// `[direction][rows, width]` from the rows that `of(direction, picture)` computes, in the order of the direction.
    pub fn cpu(self, width: usize, mut of: impl FnMut(usize, usize) -> Vec<f64>) -> Vec<f64> {
        let mut all = Vec::with_capacity(DIRECTIONS * self.rows() * width);
        for direction in 0..DIRECTIONS {
            for picture in 0..self.most {
                all.extend(self.sequence(&of(direction, picture), width, 0, direction));
            }
        }
        all
    }
}
