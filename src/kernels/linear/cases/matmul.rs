//! Declarations and cases of `matmul`.

use super::super::epilogue::EpilogueKind;
use super::super::math::Math;
use super::super::matmul::{MatmulVariant, Tile};
use super::super::product::{self, Product, Shape};
use super::{Cases, build_softplus, cases as cases_of};
use crate::format::WeightFormat;
use crate::gpu::{Caps, KernelDef};
use crate::kernels::case::{Case, Io};

const EPILOGUES: [EpilogueKind; 3] = [EpilogueKind::Store, EpilogueKind::Residual, EpilogueKind::Softplus];
/// The epilogues of picture models, and the formats that they are tested with.
const OF_PICTURES: [EpilogueKind; 3] = [EpilogueKind::Table, EpilogueKind::Gelu, EpilogueKind::BiasResidual];
const WITH_PICTURES: [WeightFormat; 2] = [WeightFormat::F32, WeightFormat::F16];

/// Slices of k, also more than there are steps of k, and the formats that they are tested with.
const SLICED: [EpilogueKind; 2] = [EpilogueKind::Slices(3), EpilogueKind::Slices(16)];
const WITH_SLICES: [WeightFormat; 3] = [WeightFormat::Bf16, WeightFormat::F32, WeightFormat::Q4_0];

pub(in crate::kernels) fn defs(caps: &Caps) -> Vec<KernelDef> {
    let of_variant = |variant| {
        let def = move |format| {
            let shape = move |epilogue| Shape { format, columns: 0, squares: None, epilogue };
            let of_pictures = OF_PICTURES.into_iter().filter(move |_| WITH_PICTURES.contains(&format));
            let sliced = SLICED.into_iter().filter(move |_| WITH_SLICES.contains(&format));
            EPILOGUES
                .into_iter()
                .chain(of_pictures)
                .chain(sliced)
                .map(move |epilogue| product::def(Product::Matmul(variant), shape(epilogue)))
        };
        WeightFormat::ALL.into_iter().flat_map(def)
    };
    MatmulVariant::all(caps).into_iter().flat_map(|variant| variant.tiles(caps)).flat_map(of_variant).collect()
}

pub(in crate::kernels) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    for variant in MatmulVariant::all(caps) {
        let product = Product::Matmul(variant);
        // Classes of arithmetic are reported separately: each has its own error.
        let kernel = match variant {
            MatmulVariant::Coop(_, Math::Exact, _) => "matmul_coop",
            MatmulVariant::Coop(_, Math::Fast, _) => "matmul_coop_fast",
            _ => "matmul",
        };
        // A CPU's driver takes over ten seconds to compile matrices of 16: there only those of 8 test all formats and epilogues.
        let (formats, epilogues) = match variant {
            MatmulVariant::Coop(coop, ..) if caps.cpu && coop.size == 16 => {
                (&[WeightFormat::F16, WeightFormat::Bf16, WeightFormat::Q4_0][..], &EPILOGUES[..1])
            }
            _ => (&WeightFormat::ALL[..], &EPILOGUES[..]),
        };
        cases.extend(cases_of(
            kernel,
            &variant.to_string(),
            (product, formats),
            epilogues,
            (Cases::All, &|_| usize::MAX),
        ));
        if epilogues.len() > 1 {
            cases.extend(cases_of(
                kernel,
                &variant.to_string(),
                (product, &WITH_PICTURES),
                &OF_PICTURES,
                (Cases::Few, &|_| usize::MAX),
            ));
        }
        let sliced = if epilogues.len() > 1 { &WITH_SLICES[..] } else { &WITH_SLICES[..1] };
        cases.extend(cases_of(kernel, &variant.to_string(), (product, sliced), &SLICED, (Cases::Few, &|_| usize::MAX)));
        // Tiles differ in how lines are loaded, which depends on the length of a unit and on the splits.
        let own = Some(Tile::CPU).filter(|_| caps.cpu);
        let others = |tile: &MatmulVariant| matches!(tile, MatmulVariant::Coop(_, _, tile) if *tile != own);
        for tile in variant.tiles(caps).into_iter().filter(others) {
            let formats = [WeightFormat::Bf16, WeightFormat::Q4_0, WeightFormat::F32, WeightFormat::Nf4];
            let formats = &formats[..if caps.cpu { 2 } else { 4 }];
            let product = Product::Matmul(tile);
            cases.extend(cases_of(
                kernel,
                &tile.to_string(),
                (product, formats),
                &[EpilogueKind::Store, SLICED[0]],
                (Cases::Few, &|_| usize::MAX),
            ));
        }
        let softplus = move |io: &mut Io| build_softplus(io, product);
        cases.push(Case::new(kernel, format!("{variant} softplus over its range"), softplus));
    }
    cases
}
