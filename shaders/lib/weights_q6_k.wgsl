// Weights in q6_K: codes of 6 bits, an i8 scale per 16 and an f16 scale per 256. A row is the codes' low four bits,
// their upper two, the scales, then the scales' scales.
struct Unit { codes: vec4<u32>, upper: vec2<u32>, scale: vec2<f32> }

fn load_unit(row: u32, unit: u32, units: u32) -> Unit {
  let blocks = (units + 7u) / 8u;
  let first = row * (13u * blocks + (blocks + 7u) / 8u);
  let block = unit / 8u;
  let scales = unpack4xI8(load_word(first + 12u * blocks + block, unit / 2u % 4u));
  let tops = unpack2x16float(load_word(first + 13u * blocks + block / 8u, block / 2u % 4u));
  let top = select(tops.x, tops.y, block % 2u == 1u);
  return Unit(
    load_bits(first + unit),
    load_pair(first + 8u * blocks + unit / 2u, unit % 2u),
    top * vec2<f32>(select(scales.xy, scales.zw, unit % 2u == 1u)),
  );
}

fn unpack_quad(unit: Unit, quad: u32) -> vec4<f32> {
  let scale = select(unit.scale.x, unit.scale.y, quad >= 4u);
  return scale * (vec4<f32>(unpack4xU8(quad_bytes(unit, quad))) - 32.0);
}

// The codes of a quad, one per byte.
fn quad_bytes(unit: Unit, quad: u32) -> u32 {
  let upper = select(unit.upper.x, unit.upper.y, quad >= 4u) >> (2u * (quad % 4u));
  return code_bytes(unit.codes, quad) | ((upper & 0x03030303u) << 4u);
}
