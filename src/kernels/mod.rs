//! The kernels. A family is one file or folder: parameters, declaration, recording, CPU twin and cases.
//!
//! Imports run one way: a file here names its siblings by their path, never this file, and no two files depend on each other
//! (`tests/layering.rs`).

pub mod activation;
pub mod attention;
pub mod batch;
pub mod case;
pub mod conv;
pub mod dbc_norm;
pub mod embed;
pub mod fill;
pub mod first_cases;
pub mod layer_norm;
pub mod linear;
pub mod maths;
pub mod merge;
mod parts;
pub mod patches;
pub mod pictures;
pub mod probes;
pub mod rms_norm;
pub mod scan;
pub mod select;
mod sizes;
pub mod ssm_step;
pub mod stream;
pub mod variants;

pub use activation::{Activation, Order, ROW_ALIGN, padded_rows, stride};
pub use batch::{Batch, RowEntry};
pub use pictures::DIRECTIONS;
pub(crate) use sizes::{floats, size};

use crate::gpu::{Caps, KernelDef, ShaderPart};
use case::Case;

/// Declarations and cases of every family, in all variants that `caps` allows.
pub fn all(caps: &Caps) -> Vec<(Vec<KernelDef>, Vec<Case>)> {
    let mut all = vec![
        (embed::defs(), embed::cases()),
        (rms_norm::defs(), rms_norm::cases()),
        (linear::matvec_defs(caps), linear::matvec_cases(caps)),
        (linear::matmul_defs(caps), linear::matmul_cases(caps)),
        (conv::defs(), conv::cases()),
        (dbc_norm::defs(), dbc_norm::cases()),
        (ssm_step::defs(caps), ssm_step::cases(caps)),
        (select::defs(), select::cases()),
        (fill::defs(), fill::cases()),
        (stream::defs(), stream::cases()),
        (linear::tops_defs(), linear::tops_cases()),
        (patches::defs(), patches::cases()),
        (merge::defs(), merge::cases()),
        (layer_norm::defs(), layer_norm::cases()),
        (attention::defs(caps), attention::cases(caps)),
        (probes::copy::defs(), probes::copy::cases()),
        (probes::race::defs(), probes::race::cases()),
        (probes::teams::defs(), probes::teams::cases()),
        (probes::special_values::defs(), probes::special_values::cases()),
        (probes::functions::defs(), probes::functions::cases()),
    ];
    all.extend(scan::ScanVariant::all(caps).into_iter().map(|variant| (scan::defs(variant), scan::cases(variant))));
    all
}

/// Files of the shader folder that no kernel of this adapter uses: misnamed, or for other adapters.
pub fn unused_shaders(caps: &Caps) -> Vec<String> {
    let Some(folder) = &caps.shaders else { return Vec::new() };
    let defs: Vec<KernelDef> = all(caps).into_iter().flat_map(|(defs, _)| defs).collect();
    let of_part = |part: &ShaderPart| match part {
        ShaderPart::File(source) => [source.file; 2],
        ShaderPart::Subgroups { with, without }
        | ShaderPart::Cpu { with, without }
        | ShaderPart::Longs { with, without } => [with.file, without.file],
    };
    let used: Vec<&str> = defs.iter().flat_map(|def| &def.parts).flat_map(of_part).collect();
    folder.files().filter(|file| !used.contains(file)).map(str::to_owned).collect()
}
