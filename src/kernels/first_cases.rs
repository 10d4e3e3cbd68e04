//! Cases for the forms that a model is about to use, and what takes the place of a form that fails them.

use super::case::Case;
use super::linear::{MatmulVariant, matmul_cases, matvec_cases_of};
use super::variants::Variants;
use super::{scan, ssm_step};
use crate::format::WeightFormat;
use crate::gpu::Caps;

/// Which of the forms of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The product of a decode step with this matrix, by its position.
    Product(usize),
    /// The scan of a decode step.
    Step,
    /// The products of a prefill chunk.
    Chunk,
    /// The scan of a prefill chunk.
    Scan,
}

/// The epilogue with which the product of a matrix ends in a decode step, as the cases name it.
fn ending(matrix: &str) -> &'static str {
    match matrix {
        "in_proj" => " mixer ",
        "out_proj" => " residual ",
        "head" => " logits ",
        _ => " normed ",
    }
}

impl Variants {
    /// A few cases of each form, which take a driver well under a second to compile. Cooperative matrices have had their trial.
    pub fn first_cases(&self, caps: &Caps) -> Vec<(Part, Case)> {
        let mut cases: Vec<(Part, Case)> = Vec::new();
        for (at, product) in self.products.iter().enumerate() {
            let of_form = matvec_cases_of(product.variant, product.matrix.format);
            let ends = |case: &Case| product.variant.packs() || case.shape.contains(ending(product.name));
            cases.extend(of_form.into_iter().find(ends).map(|case| (Part::Product(at), case)));
        }
        let mut formats: Vec<WeightFormat> = self.products.iter().map(|product| product.matrix.format).collect();
        formats.dedup();
        if !matches!(self.matmul, MatmulVariant::Coop(..)) {
            let mut of_chunk = matmul_cases(caps);
            for format in formats {
                let begin = format!("{} {format} ", self.matmul);
                let found = of_chunk.iter().position(|case| case.shape.starts_with(&begin));
                cases.extend(found.map(|at| (Part::Chunk, of_chunk.swap_remove(at))));
            }
        }
        let begin = format!("{} ", self.step);
        let of_step = ssm_step::cases(caps).into_iter().find(|case| case.shape.starts_with(&begin));
        cases.extend(of_step.map(|case| (Part::Step, case)));
        // Several tokens, channels that are no multiple of a tile.
        cases.extend(scan::cases(self.scan).into_iter().nth(1).map(|case| (Part::Scan, case)));
        let mut seen = std::collections::HashSet::new();
        cases.retain(|(part, case)| matches!(part, Part::Product(_)) || seen.insert(case.to_string()));
        cases
    }

    /// These forms with `other`'s in one part.
    #[must_use]
    pub fn with_part_of(mut self, part: Part, other: &Variants) -> Self {
        match part {
            Part::Product(at) => self.products[at] = other.products[at].clone(),
            Part::Step => self.step = other.step,
            Part::Chunk => self.matmul = other.matmul,
            Part::Scan => self.scan = other.scan,
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::linear::Math;
    use crate::kernels::variants::falcon_mamba_7b;

    #[test]
    fn every_form_of_a_model_has_a_case() {
        let cpu = Caps { subgroups: true, subgroup_min: 8, subgroup_max: 8, ..Caps::portable() };
        let gpu =
            Caps { cpu: false, discrete: true, subgroup_min: 32, subgroup_max: 32, max_lanes: 1024, ..cpu.clone() };
        for caps in [Caps::portable(), cpu, gpu] {
            for (format, math) in [(WeightFormat::Bf16, Math::Exact), (WeightFormat::Q4K, Math::Fast)] {
                let variants = Variants::of(&caps, &falcon_mamba_7b(format), math);
                let parts: Vec<Part> = variants.first_cases(&caps).into_iter().map(|(part, _)| part).collect();
                for part in [Part::Product(0), Part::Product(3), Part::Step, Part::Chunk, Part::Scan] {
                    assert!(parts.contains(&part), "{part:?} of {format} {math} on {caps:?}");
                }
                let portable = Variants::portable(&falcon_mamba_7b(format), math);
                let replaced = parts.iter().fold(variants, |variants, part| variants.with_part_of(*part, &portable));
                assert_eq!(replaced, portable);
            }
        }
    }
}
