// y = W x for each row of a decode step, between a prologue and an epilogue. A team of lanes makes TEAM_ROWS rows of y at a
// time; the sum over k runs in the same order whatever the number of tokens.
override ROWS: u32 = 16u;  // rows of y that a workgroup makes
const FOURS: u32 = TEAM_ROWS / 4u;

@compute @workgroup_size(WG)
fn matvec(lanes: Lanes) {
  let token = lanes.group.y;
  if (token >= batch.rows) { return; }
  let x_first = token * params.x_stride;
  let last = params.rows - 1u;
  let end = min(params.rows, (lanes.group.x + 1u) * ROWS);
  let scale = norm_scale(token, lanes);
  var row = lanes.group.x * ROWS + team_index(lanes) * TEAM_ROWS;
  for (; row < end; row += team_count(lanes) * TEAM_ROWS) {
    var sums: array<vec4<f32>, FOURS>;
    for (var unit = team_lane(lanes); unit < params.units; unit += team_size(lanes)) {
      var v: array<vec4<f32>, QUADS>;
      for (var q = 0u; q < QUADS; q++) { v[q] = load_x(x_first + unit * QUADS + q); }
      for (var i = 0u; i < FOURS; i++) {
        let four = row + 4u * i;
        sums[i] += vec4<f32>(
          dot_unit(load_unit(min(four, last), unit, params.units), v),
          dot_unit(load_unit(min(four + 1u, last), unit, params.units), v),
          dot_unit(load_unit(min(four + 2u, last), unit, params.units), v),
          dot_unit(load_unit(min(four + 3u, last), unit, params.units), v),
        );
      }
    }
    for (var i = 0u; i < FOURS; i++) {
      let four = row + 4u * i;
      let totals = team_sum(sums[i], lanes) * scale;
      var squares = 0.0;
      // One lane a row, as far as the team reaches: an epilogue may be long.
      for (var j = team_lane(lanes); j < 4u; j += team_size(lanes)) {
        if (four + j < end) {
          let out = params.first + four + j;
          let value = finish(token, out, totals[j]);
          y[y_row(token) + out] = value;
          squares += value * value;
        }
      }
      if (SQUARES) {
        let sum = team_sum(vec4<f32>(squares, 0.0, 0.0, 0.0), lanes).x;
        if (team_lane(lanes) == 0u && four < end) { put_squares(token, params.first_square + four / 4u, sum); }
      }
    }
  }
}
