// What a product reads: the RMSNorm of a row whose values come multiplied with the norm's weights already, and whose squares
// come summed up in parts. The scale is the same for all of the row and is multiplied in after the sum.
@group(1) @binding(1) var<storage, read> squares: array<vec4<f32>>;  // [tokens, squares_in], a token's filled up to whole vec4s

// A constant of the module, so that the loop below has constant bounds, or 0 where it is a parameter.
fn squares_in() -> u32 {
  if (SQUARES_IN > 0u) { return SQUARES_IN; }
  return params.squares_in;
}

// The squares that a lane adds up of a token, one of so many lanes.
fn some_squares(token: u32, lane: u32, lanes: u32) -> f32 {
  let count = squares_in();
  let fours = (count + 3u) / 4u;
  var sum = vec4<f32>();
  for (var i = lane; i < fours; i += lanes) {
    let places = vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u);
    sum += select(vec4<f32>(), squares[token * fours + i], places < vec4<u32>(count));  // what fills up may be anything
  }
  return (sum.x + sum.y) + (sum.z + sum.w);
}

fn norm_scale(sum: f32) -> f32 { return inverseSqrt(sum / f32(params.columns) + params.eps); }
