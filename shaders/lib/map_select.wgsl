// The code map as selects, bit by bit, for CPU drivers, which load from a table lane by lane.
fn either(bits: vec4<u32>, bit: u32, low: vec4<f32>, high: vec4<f32>) -> vec4<f32> {
  return select(low, high, (bits & vec4<u32>(bit)) != vec4<u32>(0u));
}

fn pair(codes: vec4<u32>, low: f32, high: f32) -> vec4<f32> { return either(codes, 1u, vec4<f32>(low), vec4<f32>(high)); }

fn mapped(codes: vec4<u32>) -> vec4<f32> {
  let a = either(codes, 2u, pair(codes, MAP[0], MAP[1]), pair(codes, MAP[2], MAP[3]));
  let b = either(codes, 2u, pair(codes, MAP[4], MAP[5]), pair(codes, MAP[6], MAP[7]));
  let low = either(codes, 4u, a, b);
  if (SIGN_IN_CODE) { return either(codes, 8u, low, -low); }
  let c = either(codes, 2u, pair(codes, MAP[8], MAP[9]), pair(codes, MAP[10], MAP[11]));
  let d = either(codes, 2u, pair(codes, MAP[12], MAP[13]), pair(codes, MAP[14], MAP[15]));
  return either(codes, 8u, low, either(codes, 4u, c, d));
}

fn prepare_weights(lane: u32, lanes: u32) {}
