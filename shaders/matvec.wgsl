// y = W x for the rows of a decode step, COLUMNS of them at a time, between a prologue and an epilogue. A team of lanes makes
// TEAM_ROWS rows of y at a time, and loads each unit of W once for all columns. The sum over k runs in the same order whatever
// the number of tokens, of columns and of TEAM_ROWS.
override ROWS: u32 = 16u;  // rows of y that a workgroup makes
const FOURS: u32 = TEAM_ROWS / 4u;

@compute @workgroup_size(WG)
fn matvec(lanes: Lanes) {
  let token = lanes.group.y * COLUMNS;
  if (token >= batch.rows) { return; }
  let last = params.rows - 1u;
  let end = min(params.rows, (lanes.group.x + 1u) * ROWS);
  take_scales(token, lanes);
  var row = lanes.group.x * ROWS + team_index(lanes) * TEAM_ROWS;
  for (; row < end; row += team_count(lanes) * TEAM_ROWS) {
    // Every index is a constant: the sums stay in registers.
    var sums: array<array<vec4<f32>, FOURS>, MOST_COLUMNS>;
    for (var unit = team_lane(lanes); unit < params.units; unit += team_size(lanes)) {
      var units: array<Unit, TEAM_ROWS>;
      for (var i = 0u; i < TEAM_ROWS; i++) { units[i] = load_unit(min(row + i, last), unit, params.units); }
      sums[0] = add(sums[0], units, token, unit);
      if (COLUMNS > 1u) { sums[1] = add(sums[1], units, token + 1u, unit); }
      if (COLUMNS > 2u) {
        sums[2] = add(sums[2], units, token + 2u, unit);
        sums[3] = add(sums[3], units, token + 3u, unit);
      }
      if (COLUMNS > 4u) {
        sums[4] = add(sums[4], units, token + 4u, unit);
        sums[5] = add(sums[5], units, token + 5u, unit);
        sums[6] = add(sums[6], units, token + 6u, unit);
        sums[7] = add(sums[7], units, token + 7u, unit);
      }
    }
    kept[0] = sums[0];
    if (COLUMNS > 1u) { kept[1] = sums[1]; }
    if (COLUMNS > 2u) {
      kept[2] = sums[2];
      kept[3] = sums[3];
    }
    if (COLUMNS > 4u) {
      kept[4] = sums[4];
      kept[5] = sums[5];
      kept[6] = sums[6];
      kept[7] = sums[7];
    }
    for (var c = 0u; c < COLUMNS; c++) { keep(kept[c], token + c, row, end, scale(c), lanes); }
  }
}

// Sums of a lane once more, where an index need not be a constant: an epilogue is long, and should be there once.
var<private> kept: array<array<vec4<f32>, FOURS>, MOST_COLUMNS>;

// The sums of a token, with the products of one unit of each row.
fn add(before: array<vec4<f32>, FOURS>, units: array<Unit, TEAM_ROWS>, token: u32, unit: u32) -> array<vec4<f32>, FOURS> {
  let first = existing(token) * params.x_stride + unit * QUADS;
  var v: array<vec4<f32>, QUADS>;
  for (var q = 0u; q < QUADS; q++) { v[q] = load_x(first + q); }
  var sums = before;
  for (var i = 0u; i < FOURS; i++) {
    sums[i] += vec4<f32>(
      dot_unit(units[4u * i], v),
      dot_unit(units[4u * i + 1u], v),
      dot_unit(units[4u * i + 2u], v),
      dot_unit(units[4u * i + 3u], v),
    );
  }
  return sums;
}

// Sums up what the lanes have of a token's rows from `row` on, and writes what becomes of it: one lane a row, as far as the
// team reaches, as an epilogue may be long.
fn keep(sums: array<vec4<f32>, FOURS>, token: u32, row: u32, end: u32, scale: f32, lanes: Lanes) {
  var totals = sums;
  for (var i = 0u; i < FOURS; i++) { totals[i] = team_sum(totals[i], lanes) * scale; }
  var squares = vec4<f32>();
  for (var j = team_lane(lanes); j < TEAM_ROWS; j += team_size(lanes)) {
    var total = 0.0;
    for (var i = 0u; i < FOURS; i++) { total = select(total, totals[i][j % 4u], j / 4u == i); }
    if (row + j < end && token < batch.rows) {
      let out = params.first + row + j;
      let value = finish(token, out, total);
      y[y_row(token) + out] = value;
      squares += select(vec4<f32>(), vec4<f32>(value * value), vec4<u32>(j / 4u) == vec4<u32>(0u, 1u, 2u, 3u));
    }
  }
  if (SQUARES) {
    let sum = team_sum(squares, lanes);
    for (var i = team_lane(lanes); i < FOURS; i += team_size(lanes)) {
      if (row + 4u * i < end && token < batch.rows) { put_squares(token, params.first_square + row / 4u + i, sum[i]); }
    }
  }
}
