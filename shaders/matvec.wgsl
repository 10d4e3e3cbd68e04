// y = W x for the rows of a decode step, X_ROWS of them at a time, between a prologue and an epilogue. A team of lanes makes
// TEAM_ROWS rows of y at a time and loads each unit of W once for all rows of x. The sum over k runs in the same order for any
// number of tokens, X_ROWS, TEAM_ROWS and FLIGHT.
override ROWS: u32 = 16u;  // rows of y that a workgroup makes

// Units in a row of W: a constant, so that loops over a row have constant bounds, or a parameter if UNITS is 0.
fn row_units() -> u32 {
  if (UNITS > 0u) { return UNITS; }
  return params.units;
}

@compute @workgroup_size(WG)
fn matvec(group: Group, lanes: Lanes) {
  let token = group.id.y * X_ROWS;
  if (token >= batch.rows) { return; }
  prepare_weights(lanes.index, WG);
  load_scales(token, group, lanes);
  let first = group.id.x * ROWS;
  let end = min(params.rows, first + ROWS);
  for (var at = 0u; at < ROWS; at += team_count(group) * TEAM_ROWS) {
    let row = first + at + team_index(lanes) * TEAM_ROWS;
    preload_first(token, row, end, group, lanes);
    // Every index is a constant: the sums stay in registers.
    var sums = array<Sums, MAX_X_ROWS>();
    let step = team_size(group);
    let lane = team_lane(lanes);
    // If the bound is a parameter, each lane counts from its own first unit: Mesa's software driver recompiles a loop with a
    // uniform bound at each dispatch.
    var base = select(lane, 0u, UNITS > 0u);
    let ahead = lane - base;
    // FLIGHT units of each row are in flight at a time.
    if (FLIGHT > 1u) {
      for (; base + FLIGHT * step <= row_units(); base += FLIGHT * step) {
        var units = array<RowUnits, MOST_FLIGHT>();
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
    // The rest, one at a time; none if a row is whole flights.
    if (FLIGHT == 1u || UNITS == 0u || UNITS % (FLIGHT * step) != 0u) {
      for (; base < row_units(); base += step) {
        let unit = base + ahead;
        if ((UNITS > 0u && UNITS % step == 0u) || unit < row_units()) { add(&sums, load_rows(row, unit), token, unit); }
      }
    }

    sum_up(0u, sums[0], lanes);
    if (X_ROWS > 1u) { sum_up(1u, sums[1], lanes); }
    if (X_ROWS > 2u) {
      sum_up(2u, sums[2], lanes);
      sum_up(3u, sums[3], lanes);
    }
    if (X_ROWS > 4u) {
      sum_up(4u, sums[4], lanes);
      sum_up(5u, sums[5], lanes);
      sum_up(6u, sums[6], lanes);
      sum_up(7u, sums[7], lanes);
    }
    sync_totals(lanes);
    if (at == 0u) { sync_scales(); }
    finish_rows(token, row, end, group, lanes);
  }
  write_groups(token, first, lanes);
}

const MOST_FLIGHT: u32 = 4u;

// Whether a team finishes all of its rows at once, one item per lane. The epilogue's operands are then loaded before the sums are
// known.
fn at_once(group: Group) -> bool { return SUBGROUP_LANES > 0u && TEAM_ROWS * X_ROWS <= team_size(group); }

fn preload_first(token: u32, row: u32, end: u32, group: Group, lanes: Lanes) {
  let item = team_lane(lanes);
  let own_row = row + item % TEAM_ROWS;
  if (at_once(group) && item / TEAM_ROWS < X_ROWS && own_row < end && token + item / TEAM_ROWS < batch.rows) {
    preload(token + item / TEAM_ROWS, params.first + own_row);
  }
}

// Applies the epilogue to the sums of a team and writes y. An item is a row of y for one row of x; lanes take one item each,
// because an epilogue may be long.
fn finish_rows(token: u32, row: u32, end: u32, group: Group, lanes: Lanes) {
  for (var at = 0u; at < TEAM_ROWS * X_ROWS; at += team_size(group)) {
    let item = at + team_lane(lanes);
    let x_row = item / TEAM_ROWS;
    let own_row = row + item % TEAM_ROWS;
    let there = x_row < X_ROWS && own_row < end && token + x_row < batch.rows;
    var value = 0.0;
    if (there) {
      let out = params.first + own_row;
      if (!at_once(group)) { preload(token + x_row, out); }
      value = finish(token + x_row, out, total_of(x_row, item % TEAM_ROWS, group, lanes) * scale(x_row, group, lanes));
      y[y_at(token + x_row, out)] = value;
    }
    if (x_row < X_ROWS) { keep(x_row, own_row - group.id.x * ROWS, there); }
    if (SQUARES) {
      let sum = sum_of_rows(value * value, lanes);
      if (there && item % SQUARE_ROWS == 0u) {
        put_squares(token + x_row, params.first_square + own_row / SQUARE_ROWS, sum);
      }
    }
  }
}
