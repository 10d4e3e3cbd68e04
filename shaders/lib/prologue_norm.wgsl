// Prologue: the RMSNorm of a row of x that is multiplied with the norm's weights already and comes with partial sums of its
// squares. One scale belongs to the row; it multiplies the finished sum.
@group(1) @binding(1) var<storage, read> squares: array<vec4<f32>>;  // [tokens, squares_in], each token padded to whole vec4s

// A constant, so that the loop below has constant bounds, or a parameter if SQUARES_IN is 0.
fn squares_in() -> u32 {
  if (SQUARES_IN > 0u) { return SQUARES_IN; }
  return params.squares_in;
}

// The partial sums of a token that lane `lane` of `lanes` adds up.
fn lane_squares(token: u32, lane: u32, lanes: u32) -> f32 {
  let count = squares_in();
  let fours = (count + 3u) / 4u;
  var sum = vec4<f32>();
  for (var i = lane; i < fours; i += lanes) {
    let places = vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u);
    sum += select(vec4<f32>(), squares[token * fours + i], places < vec4<u32>(count));  // the padding may hold anything
  }
  return (sum.x + sum.y) + (sum.z + sum.w);
}

fn norm_scale(sum: f32) -> f32 { return inverseSqrt(sum / f32(params.columns) + params.eps); }
