// The normal-float map of 4 bits (Dettmers et al., 2023, appendix E): quantiles of a normal distribution. Chosen bit by bit: a
// table with a variable index would lie in memory.
fn either(bits: vec4<u32>, bit: u32, low: vec4<f32>, high: vec4<f32>) -> vec4<f32> {
  return select(low, high, (bits & vec4<u32>(bit)) != vec4<u32>(0u));
}

fn pair(codes: vec4<u32>, low: f32, high: f32) -> vec4<f32> { return either(codes, 1u, vec4<f32>(low), vec4<f32>(high)); }

fn mapped(codes: vec4<u32>) -> vec4<f32> {
  let a = either(codes, 2u, pair(codes, -1.0, -0.6961928), pair(codes, -0.52507305, -0.3949175));
  let b = either(codes, 2u, pair(codes, -0.28444138, -0.18477343), pair(codes, -0.09105004, 0.0));
  let c = either(codes, 2u, pair(codes, 0.0795803, 0.1609302), pair(codes, 0.2461123, 0.33791524));
  let d = either(codes, 2u, pair(codes, 0.44070983, 0.562617), pair(codes, 0.72295684, 1.0));
  return either(codes, 8u, either(codes, 4u, a, b), either(codes, 4u, c, d));
}
