// What a product reads: the RMSNorm of a row whose values come multiplied with the norm's weights already, and whose squares
// come summed up in parts. The scale is the same for all of the row and is multiplied in after the sum.
@group(1) @binding(1) var<storage, read> squares: array<f32>;  // [tokens, squares_in]

fn norm_scale(token: u32, lanes: Lanes) -> f32 {
  var sum = 0.0;
  for (var i = team_lane(lanes); i < params.squares_in; i += team_size(lanes)) { sum += squares[token * params.squares_in + i]; }
  return inverseSqrt(team_sum(vec4<f32>(sum, 0.0, 0.0, 0.0), lanes).x / f32(params.columns) + params.eps);
}
