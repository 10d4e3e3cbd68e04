//! The variant of each kernel family to record: by the adapter's kind and abilities, or by measurement.

use super::linear::{Linear, Math, Matrix, Product, matmul, matvec, trial};
use super::{scan, ssm_step};
use crate::error::Result;
use crate::format::WeightFormat;
use crate::gpu::{Caps, Gpu};

/// A matrix of a decode step, and the variant of its product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepProduct {
    /// Its role in the model: in_proj, x_proj, out_proj, head.
    pub name: &'static str,
    /// Its shape and format.
    pub matrix: Matrix,
    /// The variant of its product.
    pub variant: matvec::MatvecVariant,
}

impl std::fmt::Display for StepProduct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.matrix)
    }
}

/// A variant for each family that has several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variants {
    /// Products of a decode step, matrix by matrix.
    pub products: Vec<StepProduct>,
    /// The scan of a decode step.
    pub step: ssm_step::StepVariant,
    /// Products of a prefill chunk.
    pub matmul: matmul::MatmulVariant,
    /// The scan of a prefill chunk.
    pub scan: scan::ScanVariant,
    /// Class of arithmetic.
    pub math: Math,
}

/// The shapes that variants are chosen for: named matrices of a decode step, channels and states of the scan.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// Each distinct one once.
    pub matrices: Vec<(&'static str, Matrix)>,
    /// All matrices whose outputs a product reads are sharded by whole int8 groups of rows.
    pub by_groups: bool,
    /// Channels, D.
    pub channels: usize,
    /// States of each, N.
    pub states: usize,
}

/// The sizes that choose the kernels of Falcon Mamba 7B, with weights in `format`.
pub fn falcon_mamba_7b(format: WeightFormat) -> Sizes {
    let matrix = |rows, columns| Matrix { rows, columns, format };
    let matrices = vec![
        ("in_proj", matrix(16384, 4096)),
        ("x_proj", matrix(288, 8192)),
        ("out_proj", matrix(4096, 8192)),
        ("head", matrix(65024, 4096)),
    ];
    Sizes { matrices, by_groups: true, channels: 8192, states: 16 }
}

impl Variants {
    /// Variants that run on any adapter.
    pub fn portable(sizes: &Sizes, math: Math) -> Self {
        let caps = Caps::portable();
        Variants {
            matmul: matmul::MatmulVariant::Direct,
            scan: scan::ScanVariant::Direct,
            ..Self::of(&caps, sizes, math)
        }
    }

    /// The variants for an adapter and a model, as far as its kind and abilities tell without a trial.
    pub fn of(caps: &Caps, sizes: &Sizes, math: Math) -> Self {
        // Fast arithmetic: out_proj packs the input of in_proj and the head, and the scan's step packs that of out_proj. The
        // input of x_proj is not packed, because in_proj computes adjacent rows in distant lanes.
        let int8 = |name: &str, matrix: &Matrix| {
            let packed = math == Math::Fast && sizes.by_groups && name != "x_proj";
            packed && matvec::MatvecVariant::of(caps, matrix).with_int8(caps, matrix.format).int8
        };
        let packs = sizes.matrices.iter().any(|(name, matrix)| *name != "out_proj" && int8(name, matrix));
        let product = |(name, matrix): &(&'static str, Matrix)| {
            let mut variant = matvec::MatvecVariant::of(caps, matrix);
            if int8(name, matrix) {
                variant = variant.with_int8(caps, matrix.format);
            }
            if *name == "out_proj" && packs {
                variant = variant.in_groups(caps);
            }
            StepProduct { name, matrix: *matrix, variant }
        };
        Variants {
            products: sizes.matrices.iter().map(product).collect(),
            step: ssm_step::StepVariant::of(caps),
            matmul: matmul::MatmulVariant::of(caps),
            scan: scan::ScanVariant::of(caps, sizes.channels, sizes.states),
            math,
        }
    }

    /// [`Variants::of`], with cooperative matrices if they win their trial on this device.
    pub async fn tried(gpu: &Gpu, math: Math, sizes: &Sizes) -> Result<Self> {
        let variants = Self::of(gpu.caps(), sizes, math);
        let trial = trial(gpu, math).await?;
        Ok(match trial {
            Some(trial) => Variants { matmul: trial.winner(), ..variants },
            None => variants,
        })
    }

    /// The product of a decode step with a matrix, by its role in the model.
    pub fn decode(&self, name: &str, matrix: &Linear) -> Product {
        let found = self.products.iter().find(|product| product.name == name && product.matrix == matrix.matrix());
        Product::Matvec(found.expect("variants are chosen for all matrices of a model").variant)
    }

    /// The product of a prefill chunk.
    pub fn prefill(&self) -> Product {
        Product::Matmul(self.matmul)
    }

    /// Each variant with its use.
    pub fn named(&self) -> Vec<(String, String)> {
        let products = self.products.iter();
        let mut named: Vec<_> = products.map(|p| (p.to_string(), p.variant.to_string())).collect();
        named.push(("step".to_owned(), self.step.to_string()));
        named.push(("matmul".to_owned(), self.matmul.to_string()));
        named.push(("scan".to_owned(), self.scan.name().to_owned()));
        named
    }
}

impl std::fmt::Display for Variants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named: Vec<String> = self.named().into_iter().map(|(what, variant)| format!("{what}: {variant}")).collect();
        f.write_str(&named.join(" · "))
    }
}
