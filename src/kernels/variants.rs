//! Which form of each kernel family is recorded: by what the adapter is and can do, or as it was measured.

use super::linear::Linear;
use super::matvec::Matrix;
use super::product::Product;
use super::{matmul, matvec, scan, ssm_step};
use crate::error::Result;
use crate::gpu::{Caps, Gpu};

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

/// A matrix of a decode step, and the form of its product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepProduct {
    /// What it is in the model: in_proj, x_proj, out_proj, head.
    pub name: &'static str,
    /// Its shape and format.
    pub matrix: Matrix,
    /// The form.
    pub form: matvec::Form,
}

impl std::fmt::Display for StepProduct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.matrix)
    }
}

/// A form for each family that has several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variants {
    /// Products of a decode step, matrix by matrix.
    pub products: Vec<StepProduct>,
    /// The scan of a decode step.
    pub step: ssm_step::Form,
    /// Products of a prefill chunk.
    pub matmul: matmul::Form,
    /// The scan of a prefill chunk.
    pub scan: scan::Form,
    /// How exact they are.
    pub math: Math,
}

/// What forms are chosen for: the matrices of a decode step by their names, and the channels and states of the scan.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// Different ones, each once.
    pub matrices: Vec<(&'static str, Matrix)>,
    /// All that leave what a product reads are cut by whole groups of rows.
    pub by_groups: bool,
    /// Channels, D.
    pub channels: usize,
    /// States of each, N.
    pub states: usize,
}

impl Variants {
    /// Forms that run anywhere and ask nothing of the adapter.
    pub fn portable(sizes: &Sizes, math: Math) -> Self {
        let caps = Caps::portable();
        Variants { matmul: matmul::Form::Direct, scan: scan::Form::Direct, ..Self::of(&caps, sizes, math) }
    }

    /// What suits an adapter, by its type and what it can do, and a model: nothing that only a trial can tell.
    pub fn of(caps: &Caps, sizes: &Sizes, math: Math) -> Self {
        // Fast arithmetic: what in_proj and the head read comes from out_proj, and what out_proj reads from the scan's step, each of
        // which packs it. x_proj reads what in_proj leaves, whose lanes are far from each other.
        let int8 = |name: &str, matrix: &Matrix| {
            let packed = math == Math::Fast && sizes.by_groups && name != "x_proj";
            packed && matvec::Form::of(caps, matrix).with_int8(caps, matrix.format).int8
        };
        let packs = sizes.matrices.iter().any(|(name, matrix)| *name != "out_proj" && int8(name, matrix));
        let product = |(name, matrix): &(&'static str, Matrix)| {
            let mut form = matvec::Form::of(caps, matrix);
            if int8(name, matrix) {
                form = form.with_int8(caps, matrix.format);
            }
            if *name == "out_proj" && packs {
                form = form.in_groups(caps);
            }
            StepProduct { name, matrix: *matrix, form }
        };
        Variants {
            products: sizes.matrices.iter().map(product).collect(),
            step: ssm_step::Form::of(caps),
            matmul: matmul::Form::of(caps),
            scan: scan::Form::of(caps, sizes.channels, sizes.states),
            math,
        }
    }

    /// [`Variants::of`], and cooperative matrices where they have won their trial on this device.
    pub async fn tried(gpu: &Gpu, math: Math, sizes: &Sizes) -> Result<Self> {
        let variants = Self::of(gpu.caps(), sizes, math);
        let trial = matmul::trial(gpu, math).await?;
        Ok(match trial {
            Some(trial) => Variants { matmul: trial.winner(), ..variants },
            None => variants,
        })
    }

    /// The product of a decode step with a matrix of the model that these were chosen for, by what it is in the model.
    pub fn decode(&self, name: &str, matrix: &Linear) -> Product {
        let found = self.products.iter().find(|product| product.name == name && product.matrix == matrix.matrix());
        Product::Matvec(found.expect("forms are chosen for all matrices of a model").form)
    }

    /// The product of a prefill chunk.
    pub fn prefill(&self) -> Product {
        Product::Matmul(self.matmul)
    }

    /// Each form with what it is for.
    pub fn named(&self) -> Vec<(String, String)> {
        let products = self.products.iter();
        let mut named: Vec<_> = products.map(|p| (p.to_string(), p.form.to_string())).collect();
        named.push(("step".to_owned(), self.step.to_string()));
        named.push(("matmul".to_owned(), self.matmul.to_string()));
        named.push(("scan".to_owned(), self.scan.name().to_owned()));
        named
    }
}

impl std::fmt::Display for Variants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named: Vec<String> = self.named().into_iter().map(|(what, form)| format!("{what}: {form}")).collect();
        f.write_str(&named.join(" · "))
    }
}
