// Weights in q4_K: codes of 4 bits, a scale and a minimum per 32. A row is the codes, then the scales.
struct Unit { codes: vec4<u32>, scale: vec2<f32> }

fn load_unit(row: u32, unit: u32, units: u32) -> Unit {
  let blocks = (units + 7u) / 8u;
  let first = row * 9u * blocks;
  return Unit(load_bits(first + unit), group_scale(load_bits(first + 8u * blocks + unit / 8u), unit % 8u));
}

fn unpack_quad(unit: Unit, quad: u32) -> vec4<f32> {
  return unit.scale.x * vec4<f32>(codes_of(unit.codes, quad)) - unit.scale.y;
}
