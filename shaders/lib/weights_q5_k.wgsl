// Weights in q5_K: codes of 5 bits, a scale and a minimum per 32. A row is the codes' low four bits, their fifth bits,
// then the scales.
struct Unit { codes: vec4<u32>, fifth: u32, scale: vec2<f32> }

fn load_unit(row: u32, unit: u32, units: u32) -> Unit {
  let blocks = (units + 7u) / 8u;
  let first = row * 11u * blocks;
  return Unit(
    load_bits(first + unit),
    load_word(first + 8u * blocks + unit / 4u, unit % 4u),
    group_scale(load_bits(first + 10u * blocks + unit / 8u), unit % 8u),
  );
}

fn unpack_quad(unit: Unit, quad: u32) -> vec4<f32> {
  return unit.scale.x * vec4<f32>(unpack4xU8(quad_bytes(unit, quad))) - unit.scale.y;
}

// The codes of a quad, one per byte.
fn quad_bytes(unit: Unit, quad: u32) -> u32 {
  return code_bytes(unit.codes, quad) | (((unit.fifth >> quad) & 0x01010101u) << 4u);
}
