// The 4-bit floats of bitsandbytes: a sign, then one of eight sizes.
fn mapped(codes: vec4<u32>) -> vec4<f32> {
  let a = either(codes, 2u, pair(codes, 0.0, 0.0052083334885537624), pair(codes, 0.6666666865348816, 1.0));
  let b = either(codes, 2u, pair(codes, 0.3333333432674408, 0.5), pair(codes, 0.1666666716337204, 0.25));
  let size = either(codes, 4u, a, b);
  return either(codes, 8u, size, -size);
}
