// A unit with one scale for all of its values.
fn unpack_quad(unit: Unit, quad: u32) -> vec4<f32> { return unit.scale * unscaled_quad(unit, quad); }
