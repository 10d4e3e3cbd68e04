// A team makes one row of W at a time.
const TEAM_ROWS: u32 = 1u;
alias Sums = f32;
alias RowUnits = array<Unit, TEAM_ROWS>;

// One unit of each. Rows after the last read it once more, and are not kept.
fn load_rows(row: u32, unit: u32) -> RowUnits {
  return RowUnits(load_unit(min(row, params.rows - 1u), unit, row_units()));
}

fn dots(units: RowUnits, v: array<vec4<f32>, QUADS>) -> Sums {
  return dot_unit(units[0], v);
}

fn sum_in(sums: Sums, row: u32) -> f32 { return sums; }

// Over the lanes that add up directly, which all get the sums and all must call it.
fn direct_sums(sums: Sums, lanes: Lanes) -> Sums {
  return direct_sum_of_one(sums, lanes);
}
