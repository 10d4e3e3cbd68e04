// What a product reads: the RMSNorm of a row whose values come multiplied with the norm's weights already, and whose squares
// come summed up in parts. The scale is the same for all of the row and is multiplied in after the sum.
@group(1) @binding(1) var<storage, read> squares: array<f32>;  // [tokens, squares_in]

// The squares that a lane adds up of a token, one of so many lanes.
fn some_squares(token: u32, lane: u32, lanes: u32) -> f32 {
  var sum = 0.0;
  for (var i = lane; i < params.squares_in; i += lanes) { sum += squares[token * params.squares_in + i]; }
  return sum;
}

fn norm_scale(sum: f32) -> f32 { return inverseSqrt(sum / f32(params.columns) + params.eps); }
