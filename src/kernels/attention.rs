//! Attention of a vision transformer: y = softmax(Q K^T / sqrt(width)) V for each head of each picture (Vaswani et al., "Attention Is
//! All You Need", 2017, equation 1).
//!
//! [`tiled`] makes it without storing scores; [`stored`] stores the scores of all heads and their softmax, as implementations of
//! separate products do.

mod cases;
pub mod stored;
pub mod tiled;

pub(super) use cases::{cases, defs};

use super::activation::Activation;
use crate::gpu::Caps;

/// Columns of the widest head.
pub const WIDEST_HEAD: usize = 128;

/// The heads of the pictures of a batch. Q, K and V are one activation `[pictures * tokens, Q | K | V]` with Q, K and V
/// `[heads, width]` in a row; the result is `[pictures * tokens, heads * width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Rows of a picture.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Columns of a head: a multiple of 4, at most [`WIDEST_HEAD`].
    pub width: usize,
}

impl Heads {
    /// Columns of the result.
    pub fn columns(self) -> usize {
        self.heads * self.width
    }

    /// Factor of the scores.
    fn scale(self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// Checks the operands of a recording.
    fn check(self, label: &str, (qkv, y): (&Activation, &Activation)) {
        assert!(self.width.is_multiple_of(4) && self.width <= WIDEST_HEAD, "{label}: heads of {}", self.width);
        assert!(qkv.width >= 3 * self.columns() && y.width >= self.columns(), "{label}: qkv or y is too narrow");
    }

    /// The scaled scores `[picture, head, query, key]`.
    fn cpu_scores(self, qkv: &[f64]) -> Vec<f64> {
        let (stride, scale) = (3 * self.columns(), f64::from(self.scale()));
        let mut scores = Vec::new();
        for picture in qkv.chunks_exact(self.tokens * stride) {
            for head in 0..self.heads {
                let row = |token: usize, part: usize| {
                    &picture[token * stride + part * self.columns() + head * self.width..][..self.width]
                };
                for query in 0..self.tokens {
                    let score = |key| row(query, 0).iter().zip(row(key, 1)).map(|(q, k)| q * k).sum::<f64>() * scale;
                    scores.extend((0..self.tokens).map(score));
                }
            }
        }
        scores
    }

    /// y `[pictures * tokens, heads * width]` from weights `[picture, head, query, key]` and qkv.
    fn cpu_values(self, weights: &[f64], qkv: &[f64]) -> Vec<f64> {
        let (columns, tokens) = (self.columns(), self.tokens);
        let mut y = vec![0.0; qkv.len() / 3];
        for (line, weights) in weights.chunks_exact(tokens).enumerate() {
            let (slice, query) = (line / tokens, line % tokens);
            let (picture, head) = (slice / self.heads, slice % self.heads);
            let out = &mut y[(picture * tokens + query) * columns + head * self.width..][..self.width];
            for (key, weight) in weights.iter().enumerate() {
                let at = (picture * tokens + key) * 3 * columns + 2 * columns + head * self.width;
                out.iter_mut().zip(&qkv[at..]).for_each(|(y, v)| *y += weight * v);
            }
        }
        y
    }

    /// The twin: y `[pictures * tokens, heads * width]` from qkv `[pictures * tokens, Q | K | V]`.
    pub fn cpu(self, qkv: &[f64]) -> Vec<f64> {
        let weights: Vec<f64> = self.cpu_scores(qkv).chunks_exact(self.tokens).flat_map(softmax).collect();
        self.cpu_values(&weights, qkv)
    }
}

/// exp(v) over its sum.
fn softmax(values: &[f64]) -> Vec<f64> {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = values.iter().map(|v| (v - most).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// How the work is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionVariant {
    /// By workgroups, through workgroup memory.
    Workgroup,
    /// By subgroups of 8 lanes that broadcast what each lane has read. For CPUs.
    Subgroup,
}

impl AttentionVariant {
    /// The variant for an adapter and heads of this width.
    pub fn of(caps: &Caps, width: usize) -> Self {
        let subgroup =
            caps.cpu && Self::all(caps).contains(&AttentionVariant::Subgroup) && width <= tiled::SUBGROUP_WIDTH;
        if subgroup { AttentionVariant::Subgroup } else { AttentionVariant::Workgroup }
    }

    /// All variants that the adapter can run.
    pub fn all(caps: &Caps) -> Vec<Self> {
        let mut all = vec![AttentionVariant::Workgroup];
        if caps.fixed_subgroup() == Some(8) {
            all.push(AttentionVariant::Subgroup);
        }
        all
    }
}
