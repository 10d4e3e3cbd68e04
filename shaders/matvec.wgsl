// y = W x for the rows of a decode step, COLUMNS of them at a time, between a prologue and an epilogue. A team of lanes makes
// TEAM_ROWS rows of y at a time, and loads each unit of W once for all columns. The sum over k runs in the same order whatever
// the number of tokens, of columns, of TEAM_ROWS and of units in flight.
override ROWS: u32 = 16u;  // rows of y that a workgroup makes

// Units in a row of W: a constant of the module, so that loops over a row have constant bounds, or 0 where it is a parameter.
fn row_units() -> u32 {
  if (UNITS > 0u) { return UNITS; }
  return params.units;
}

@compute @workgroup_size(WG)
fn matvec(lanes: Lanes) {
  let token = lanes.group.y * COLUMNS;
  if (token >= batch.rows) { return; }
  prepare_weights(lanes.index, WG);
  take_scales(token, lanes);
  let first = lanes.group.x * ROWS;
  let end = min(params.rows, first + ROWS);
  for (var at = 0u; at < ROWS; at += team_count(lanes) * TEAM_ROWS) {
    let row = first + at + team_index(lanes) * TEAM_ROWS;
    foresee_first(token, row, end, lanes);
    // Every index is a constant: the sums stay in registers.
    var sums: array<Sums, MOST_COLUMNS>;
    let step = team_size(lanes);
    let lane = team_lane(lanes);
    // Where the bound is a parameter, each lane counts from its own first unit: Mesa's software driver compiles a loop with a
    // uniform bound anew at each dispatch.
    var base = select(lane, 0u, UNITS > 0u);
    let ahead = lane - base;
    // FLIGHT units of each row are on their way at a time.
    if (FLIGHT > 1u) {
      for (; base + FLIGHT * step <= row_units(); base += FLIGHT * step) {
        var units: array<RowUnits, MOST_FLIGHT>;
        let unit = base + ahead;
        units[0] = load_rows(row, unit);
        units[1] = load_rows(row, unit + step);
        if (FLIGHT > 2u) {
          units[2] = load_rows(row, unit + 2u * step);
          units[3] = load_rows(row, unit + 3u * step);
        }
        add(&sums, units[0], token, unit);
        add(&sums, units[1], token, unit + step);
        if (FLIGHT > 2u) {
          add(&sums, units[2], token, unit + 2u * step);
          add(&sums, units[3], token, unit + 3u * step);
        }
      }
    }
    // The rest, one at a time; none where a row is so many whole flights.
    if (FLIGHT == 1u || UNITS == 0u || UNITS % (FLIGHT * step) != 0u) {
      for (; base < row_units(); base += step) {
        let unit = base + ahead;
        if (UNITS > 0u && UNITS % step == 0u || unit < row_units()) { add(&sums, load_rows(row, unit), token, unit); }
      }
    }

    sum_up(0u, sums[0], lanes);
    if (COLUMNS > 1u) { sum_up(1u, sums[1], lanes); }
    if (COLUMNS > 2u) {
      sum_up(2u, sums[2], lanes);
      sum_up(3u, sums[3], lanes);
    }
    if (COLUMNS > 4u) {
      sum_up(4u, sums[4], lanes);
      sum_up(5u, sums[5], lanes);
      sum_up(6u, sums[6], lanes);
      sum_up(7u, sums[7], lanes);
    }
    settle(lanes);
    if (at == 0u) { settle_scales(); }
    finish_rows(token, row, end, lanes);
  }
  leave_groups(token, first, lanes);
}

const MOST_FLIGHT: u32 = 4u;

// Whether a team finishes all of its rows at once, a row of a column a lane. An epilogue then loads what it needs before the sums
// are there.
fn at_once(lanes: Lanes) -> bool { return SUBGROUP_LANES > 0u && TEAM_ROWS * COLUMNS <= team_size(lanes); }

fn foresee_first(token: u32, row: u32, end: u32, lanes: Lanes) {
  let item = team_lane(lanes);
  let own_row = row + item % TEAM_ROWS;
  if (at_once(lanes) && item / TEAM_ROWS < COLUMNS && own_row < end && token + item / TEAM_ROWS < batch.rows) {
    foresee(token + item / TEAM_ROWS, params.first + own_row);
  }
}

// Writes what becomes of the sums of a team: one lane an item, a row of a column, as far as the team reaches, as an epilogue
// may be long.
fn finish_rows(token: u32, row: u32, end: u32, lanes: Lanes) {
  for (var at = 0u; at < TEAM_ROWS * COLUMNS; at += team_size(lanes)) {
    let item = at + team_lane(lanes);
    let column = item / TEAM_ROWS;
    let own_row = row + item % TEAM_ROWS;
    let there = column < COLUMNS && own_row < end && token + column < batch.rows;
    var value = 0.0;
    if (there) {
      let out = params.first + own_row;
      if (!at_once(lanes)) { foresee(token + column, out); }
      value = finish(token + column, out, total_of(column, item % TEAM_ROWS, lanes) * scale(column, lanes));
      y[y_at(token + column, out)] = value;
    }
    if (column < COLUMNS) { keep(column, own_row - lanes.group.x * ROWS, there); }
    if (SQUARES) {
      let sum = sum_of_rows(value * value, lanes);
      if (there && item % SQUARE_ROWS == 0u) {
        put_squares(token + column, params.first_square + own_row / SQUARE_ROWS, sum);
      }
    }
  }
}
