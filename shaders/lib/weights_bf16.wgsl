// Weights in bf16: a unit is 16 bytes, 8 values of one row, each the upper half of an f32.
struct Unit { bits: vec4<u32> }

fn load_unit(row: u32, unit: u32, units: u32) -> Unit { return Unit(load_bits(row * units + unit)); }

fn unpack_quad(unit: Unit, quad: u32) -> vec4<f32> {
  let b = select(unit.bits.xy, unit.bits.zw, quad == 1u);
  let low = b << vec2<u32>(16u);
  let high = b & vec2<u32>(0xffff0000u);
  return bitcast<vec4<f32>>(vec4<u32>(low.x, high.x, low.y, high.y));
}
