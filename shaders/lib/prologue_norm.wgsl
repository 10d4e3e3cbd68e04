// What a product reads: the RMSNorm of a row whose values come multiplied with the norm's weights already, and whose squares
// come summed up in parts. The scale is the same for all of the row and is multiplied in after the sum.
@group(1) @binding(1) var<storage, read> squares: array<f32>;  // [tokens, squares_in]

// A constant of the module, so that the loop below has constant bounds, or 0 where it is a parameter.
fn squares_in() -> u32 {
  if (SQUARES_IN > 0u) { return SQUARES_IN; }
  return params.squares_in;
}

// The squares that a lane adds up of a token, one of so many lanes.
fn some_squares(token: u32, lane: u32, lanes: u32) -> f32 {
  var sum = 0.0;
  let count = squares_in();
  for (var i = lane; i < count; i += lanes) { sum += squares[token * count + i]; }
  return sum;
}

fn norm_scale(sum: f32) -> f32 { return inverseSqrt(sum / f32(params.columns) + params.eps); }
