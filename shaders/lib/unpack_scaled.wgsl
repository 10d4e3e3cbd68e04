// A unit with one scale.
fn unpack_quad(unit: Unit, quad: u32) -> vec4<f32> { return unit.scale * unscaled_quad(unit, quad); }
