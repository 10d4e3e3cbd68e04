//! WGSL parts that load weights of a format and multiply with them.

use crate::format::WeightFormat;
use crate::gpu::{Binding, ShaderFile, ShaderPart, wgsl};
use crate::kernels::parts::file;

/// The parts that load weights of a format: they bind them in group 1 and unpack one unit at a time.
pub(in crate::kernels) fn weights_parts(format: WeightFormat) -> Vec<ShaderPart> {
    let bits = ShaderPart::Longs { with: wgsl!("lib/bits_longs.wgsl"), without: wgsl!("lib/bits_words.wgsl") };
    let unpack = match format {
        WeightFormat::F32 => vec![wgsl!("lib/weights_f32.wgsl")],
        WeightFormat::F16 => vec![wgsl!("lib/weights_f16.wgsl")],
        WeightFormat::Bf16 => vec![wgsl!("lib/weights_bf16.wgsl")],
        WeightFormat::Q8_0 => vec![wgsl!("lib/codes_8.wgsl"), wgsl!("lib/weights_q8_0.wgsl")],
        WeightFormat::Int8 => vec![wgsl!("lib/codes_8.wgsl"), wgsl!("lib/weights_int8.wgsl")],
        WeightFormat::Q4_0 => vec![wgsl!("lib/codes_4.wgsl"), wgsl!("lib/weights_q4_0.wgsl")],
        WeightFormat::Q4K => {
            vec![wgsl!("lib/codes_4.wgsl"), wgsl!("lib/scales_k.wgsl"), wgsl!("lib/weights_q4_k.wgsl")]
        }
        WeightFormat::Q5K => {
            vec![wgsl!("lib/codes_4.wgsl"), wgsl!("lib/scales_k.wgsl"), wgsl!("lib/weights_q5_k.wgsl")]
        }
        WeightFormat::Q6K => vec![wgsl!("lib/codes_4.wgsl"), wgsl!("lib/weights_q6_k.wgsl")],
        WeightFormat::Nf4 => {
            vec![wgsl!("lib/codes_4.wgsl"), wgsl!("lib/map_nf4.wgsl"), wgsl!("lib/weights_map4.wgsl")]
        }
        WeightFormat::Fp4 => {
            vec![wgsl!("lib/codes_4.wgsl"), wgsl!("lib/map_fp4.wgsl"), wgsl!("lib/weights_map4.wgsl")]
        }
    };
    let quads = match format {
        WeightFormat::F32 => vec![wgsl!("lib/quads_1.wgsl")],
        WeightFormat::F16 | WeightFormat::Bf16 => vec![wgsl!("lib/quads_2.wgsl")],
        WeightFormat::Q4K | WeightFormat::Q5K | WeightFormat::Q6K => vec![wgsl!("lib/quads_8.wgsl")],
        WeightFormat::Q8_0 | WeightFormat::Q4_0 | WeightFormat::Nf4 | WeightFormat::Fp4 | WeightFormat::Int8 => {
            vec![wgsl!("lib/quads_8.wgsl"), wgsl!("lib/unpack_scaled.wgsl")]
        }
    };
    let map = ShaderPart::Cpu { with: wgsl!("lib/map_select.wgsl"), without: wgsl!("lib/map_table.wgsl") };
    let prepared = match format {
        WeightFormat::Nf4 | WeightFormat::Fp4 => map,
        _ => file(wgsl!("lib/map_none.wgsl")),
    };
    [bits].into_iter().chain(unpack.into_iter().chain(quads).map(file)).chain([prepared]).collect()
}

/// The parts that multiply a unit of a format with x, in addition to [`weights_parts`].
pub(in crate::kernels) fn dot_parts(format: WeightFormat) -> Vec<ShaderPart> {
    // The conversion of codes to floats, and the scaling of half a unit's products.
    let codes = |unpack: &[ShaderFile], weigh| [unpack, &[weigh, wgsl!("lib/dot_halves.wgsl")]].concat();
    let (scale, minimum) = (wgsl!("lib/weigh_scale.wgsl"), wgsl!("lib/weigh_minimum.wgsl"));
    let (nibbles, bytes) = (wgsl!("lib/lifted_codes.wgsl"), wgsl!("lib/lifted_bytes.wgsl"));
    let lifted = wgsl!("lib/codes_lifted.wgsl");
    let parts = match format {
        WeightFormat::F32 => vec![wgsl!("lib/dot_1.wgsl")],
        WeightFormat::F16 | WeightFormat::Bf16 => vec![wgsl!("lib/dot_2.wgsl")],
        WeightFormat::Q8_0 | WeightFormat::Int8 | WeightFormat::Nf4 | WeightFormat::Fp4 => {
            codes(&[wgsl!("lib/codes_unlifted.wgsl")], scale)
        }
        WeightFormat::Q4_0 => codes(&[nibbles, wgsl!("lib/codes_q4_0.wgsl"), lifted], scale),
        WeightFormat::Q4K => codes(&[nibbles, wgsl!("lib/codes_q4_k.wgsl"), lifted], minimum),
        WeightFormat::Q5K => codes(&[bytes, wgsl!("lib/codes_q5_k.wgsl"), lifted], minimum),
        WeightFormat::Q6K => codes(&[bytes, wgsl!("lib/codes_q6_k.wgsl"), lifted], wgsl!("lib/weigh_scales.wgsl")),
    };
    parts.into_iter().map(file).collect()
}

pub(in crate::kernels) fn weights_bindings() -> Vec<Binding> {
    vec![Binding::read("weight")]
}

/// The part that extracts a format's codes for integer products; `None` if its values are not multiples of integers.
pub(in crate::kernels) fn codes_part(format: WeightFormat) -> Option<ShaderFile> {
    match format {
        WeightFormat::Q8_0 | WeightFormat::Int8 => Some(wgsl!("lib/int8_of_8.wgsl")),
        WeightFormat::Q4_0 => Some(wgsl!("lib/int8_of_q4_0.wgsl")),
        WeightFormat::Q4K => Some(wgsl!("lib/int8_of_q4_k.wgsl")),
        WeightFormat::Q5K => Some(wgsl!("lib/int8_of_q5_k.wgsl")),
        WeightFormat::Q6K => Some(wgsl!("lib/int8_of_q6_k.wgsl")),
        WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16 | WeightFormat::Nf4 | WeightFormat::Fp4 => None,
    }
}
