// A team makes 4 rows of W at a time.
const TEAM_ROWS: u32 = 4u;
alias Sums = vec4<f32>;
alias RowUnits = array<Unit, TEAM_ROWS>;

// One unit of each. Rows after the last read it once more, and are not kept.
fn load_rows(row: u32, unit: u32) -> RowUnits {
  let last = params.rows - 1u;
  return RowUnits(
    load_unit(min(row, last), unit, row_units()),
    load_unit(min(row + 1u, last), unit, row_units()),
    load_unit(min(row + 2u, last), unit, row_units()),
    load_unit(min(row + 3u, last), unit, row_units()),
  );
}

fn dots(units: RowUnits, v: array<vec4<f32>, QUADS>) -> Sums {
  return vec4<f32>(
    dot_unit(units[0], v),
    dot_unit(units[1], v),
    dot_unit(units[2], v),
    dot_unit(units[3], v),
  );
}

fn sum_in(sums: Sums, row: u32) -> f32 { return sums[row]; }

// Over the lanes that add up directly, which all get the sums and all must call it.
fn direct_sums(sums: Sums, lanes: Lanes) -> Sums {
  return direct_sum_of_four(sums, lanes);
}
