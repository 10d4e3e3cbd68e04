// y = W x for the rows of a decode step, COLUMNS of them at a time, between a prologue and an epilogue: a unit of W is loaded
// once for all of them. A team of lanes makes TEAM_ROWS rows of y at a time; the sum over k runs in the same order whatever the
// number of tokens, and of columns.
override ROWS: u32 = 16u;  // rows of y that a workgroup makes
const FOURS: u32 = TEAM_ROWS / 4u;

@compute @workgroup_size(WG)
fn matvec(lanes: Lanes) {
  let first_token = lanes.group.y * COLUMNS;
  if (first_token >= batch.rows) { return; }
  let last_token = batch.rows - 1u;  // columns after it are its own once more, and not kept
  let last = params.rows - 1u;
  let end = min(params.rows, (lanes.group.x + 1u) * ROWS);
  var scale: array<f32, COLUMNS>;
  for (var c = 0u; c < COLUMNS; c++) { scale[c] = norm_scale(min(first_token + c, last_token), lanes); }
  var row = lanes.group.x * ROWS + team_index(lanes) * TEAM_ROWS;
  for (; row < end; row += team_count(lanes) * TEAM_ROWS) {
    var sums: array<array<vec4<f32>, FOURS>, COLUMNS>;
    for (var unit = team_lane(lanes); unit < params.units; unit += team_size(lanes)) {
      var units: array<Unit, TEAM_ROWS>;
      for (var i = 0u; i < TEAM_ROWS; i++) { units[i] = load_unit(min(row + i, last), unit, params.units); }
      for (var c = 0u; c < COLUMNS; c++) {
        let at = min(first_token + c, last_token) * params.x_stride + unit * QUADS;
        var v: array<vec4<f32>, QUADS>;
        for (var q = 0u; q < QUADS; q++) { v[q] = load_x(at + q); }
        for (var i = 0u; i < FOURS; i++) {
          sums[c][i] += vec4<f32>(
            dot_unit(units[4u * i], v),
            dot_unit(units[4u * i + 1u], v),
            dot_unit(units[4u * i + 2u], v),
            dot_unit(units[4u * i + 3u], v),
          );
        }
      }
    }
    for (var c = 0u; c < COLUMNS; c++) {
      let token = first_token + c;
      for (var i = 0u; i < FOURS; i++) {
        let four = row + 4u * i;
        let totals = team_sum(sums[c][i], lanes) * scale[c];
        var squares = 0.0;
        // One lane a row, as far as the team reaches: an epilogue may be long.
        for (var j = team_lane(lanes); j < 4u; j += team_size(lanes)) {
          if (four + j < end && token <= last_token) {
            let out = params.first + four + j;
            let value = finish(token, out, totals[j]);
            y[token * params.y_stride + out] = value;
            squares += value * value;
          }
        }
        if (SQUARES) {
          let sum = team_sum(vec4<f32>(squares, 0.0, 0.0, 0.0), lanes).x;
          if (team_lane(lanes) == 0u && four < end && token <= last_token) {
            put_squares(token, params.first_square + four / 4u, sum);
          }
        }
      }
    }
  }
}
