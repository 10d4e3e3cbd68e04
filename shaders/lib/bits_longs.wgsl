// A unit of weights, 16 bytes, loaded as two longs: a CPU driver loads lane by lane, whatever the width.
@group(1) @binding(0) var<storage, read> weight: array<vec2<u64>>;  // [rows, units a row]

fn load_bits(at: u32) -> vec4<u32> {
  let bits = weight[at];
  return vec4<u32>(u32(bits.x), u32(bits.x >> 32u), u32(bits.y), u32(bits.y >> 32u));
}
