// The group of x that a unit of W multiplies: 32 codes of 8 bits with a scale and the sum of the codes, as `pack_quad` writes them.
@group(0) @binding(2) var<storage, read> x: array<vec4<u32>>;  // [tokens, codes | scales and sums]

struct UnitX { low: vec4<u32>, high: vec4<u32>, scale: f32, sum: f32 }

fn unit_x(token: u32, unit: u32) -> UnitX {
  let first = token * params.x_stride;
  let pairs = x[first + 2u * row_units() + unit / 2u];
  let pair = bitcast<vec2<f32>>(select(pairs.xy, pairs.zw, unit % 2u == 1u));
  return UnitX(x[first + unit], x[first + row_units() + unit], pair.x, pair.y);
}

// Products of codes are integers, and their sums over half a unit are exact.
fn dot_x(sum: f32, unit: Unit, v: UnitX) -> f32 {
  let low = dot4I8Packed(code_word(unit, 0u), v.low.x) + dot4I8Packed(code_word(unit, 1u), v.low.y)
    + dot4I8Packed(code_word(unit, 2u), v.low.z) + dot4I8Packed(code_word(unit, 3u), v.low.w);
  let high = dot4I8Packed(code_word(unit, 4u), v.high.x) + dot4I8Packed(code_word(unit, 5u), v.high.y)
    + dot4I8Packed(code_word(unit, 6u), v.high.z) + dot4I8Packed(code_word(unit, 7u), v.high.w);
  return sum + v.scale * weighed_codes(unit, low, high, v.sum);
}
