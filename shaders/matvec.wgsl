// y = W x for each row of a decode step, then the epilogue. A team of lanes makes four rows of y at a time; the sum over k
// runs in the same order whatever the number of tokens.
override ROWS: u32 = 16u;  // rows of y that a workgroup makes
const TEAM_ROWS: u32 = 4u;

@compute @workgroup_size(WG)
fn matvec(lanes: Lanes) {
  let token = lanes.group.y;
  if (token >= batch.rows) { return; }
  let x_first = token * params.x_stride;
  let last = params.rows - 1u;
  let end = min(params.rows, (lanes.group.x + 1u) * ROWS);
  var row = lanes.group.x * ROWS + team_index(lanes) * TEAM_ROWS;
  for (; row < end; row += team_count(lanes) * TEAM_ROWS) {
    var sums = vec4<f32>();
    for (var unit = team_lane(lanes); unit < params.units; unit += team_size(lanes)) {
      var w0 = unpack_unit(load_unit(row, unit, params.units));
      var w1 = unpack_unit(load_unit(min(row + 1u, last), unit, params.units));
      var w2 = unpack_unit(load_unit(min(row + 2u, last), unit, params.units));
      var w3 = unpack_unit(load_unit(min(row + 3u, last), unit, params.units));
      for (var q = 0u; q < QUADS; q++) {
        let v = x[x_first + unit * QUADS + q];
        sums += vec4<f32>(dot(w0[q], v), dot(w1[q], v), dot(w2[q], v), dot(w3[q], v));
      }
    }
    let totals = team_sum(sums, lanes);
    if (team_lane(lanes) == 0u) {
      for (var i = 0u; i < TEAM_ROWS && row + i < end; i++) {
        let out = params.first + row + i;
        y[token * params.y_stride + out] = finish(token, out, totals[i]);
      }
    }
  }
}
