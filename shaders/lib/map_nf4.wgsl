// The normal-float map of 4 bits (Dettmers et al., 2023, appendix E): quantiles of a normal distribution.
// Values with all the digits that their f32 has.
fn mapped(codes: vec4<u32>) -> vec4<f32> {
  let a = either(codes, 2u, pair(codes, -1.0, -0.6961928009986877), pair(codes, -0.5250730514526367, -0.39491748809814453));
  let b = either(codes, 2u, pair(codes, -0.28444138169288635, -0.18477343022823334), pair(codes, -0.09105003625154495, 0.0));
  let c = either(codes, 2u, pair(codes, 0.07958029955625534, 0.16093020141124725), pair(codes, 0.24611230194568634, 0.33791524171829224));
  let d = either(codes, 2u, pair(codes, 0.44070982933044434, 0.5626170039176941), pair(codes, 0.7229568362236023, 1.0));
  return either(codes, 8u, either(codes, 4u, a, b), either(codes, 4u, c, d));
}
