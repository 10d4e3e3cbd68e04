// Weights in bf16: a unit of 16 bytes is 8 values of one row, each the upper half of an f32.
const QUADS: u32 = 2u;  // vec4s in a unit

struct Unit { bits: vec4<u32> }

fn load_unit(row: u32, unit: u32, units: u32) -> Unit { return Unit(load_bits(row * units + unit)); }

fn unpack_unit(unit: Unit) -> array<vec4<f32>, QUADS> {
  let low = bitcast<vec4<f32>>(unit.bits << vec4<u32>(16u));
  let high = bitcast<vec4<f32>>(unit.bits & vec4<u32>(0xffff0000u));
  return array<vec4<f32>, QUADS>(
    vec4<f32>(low.x, high.x, low.y, high.y),
    vec4<f32>(low.z, high.z, low.w, high.w),
  );
}
