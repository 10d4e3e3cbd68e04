// A product's input, four values at a time, loaded as two 64-bit words: a CPU driver loads lane by lane at any width, so fewer
// loads are faster.
@group(0) @binding(2) var<storage, read> x: array<vec2<u64>>;  // [tokens, k], padded with zeros to whole units

fn load_x(at: u32) -> vec4<f32> {
  let bits = x[at];
  return bitcast<vec4<f32>>(vec4<u32>(u32(bits.x), u32(bits.x >> 32u), u32(bits.y), u32(bits.y >> 32u)));
}
