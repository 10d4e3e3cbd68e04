// A team makes 2 rows of W at a time.
const TEAM_ROWS: u32 = 2u;
alias Sums = vec2<f32>;
alias RowUnits = array<Unit, TEAM_ROWS>;
alias RowQuads = array<vec4<f32>, TEAM_ROWS>;

// One unit of each. Rows past the last read the last again; their results are dropped.
fn load_rows(row: u32, unit: u32) -> RowUnits {
  let last = params.rows - 1u;
  return RowUnits(
    load_unit(min(row, last), unit, row_units()),
    load_unit(min(row + 1u, last), unit, row_units()),
  );
}

// Adds the products of a unit of each row.
fn dots(sums: Sums, units: RowUnits, v: UnitX) -> Sums {
  return vec2<f32>(
    dot_x(sums[0], units[0], v),
    dot_x(sums[1], units[1], v),
  );
}

fn row_quads(units: RowUnits, quad: u32) -> RowQuads {
  return RowQuads(
    weight_quad(units[0], quad),
    weight_quad(units[1], quad),
  );
}

fn quad_dots(weights: RowQuads, v: vec4<f32>) -> Sums {
  return vec2<f32>(
    dot(weights[0], v),
    dot(weights[1], v),
  );
}

fn weighed_rows(sums: Sums, units: RowUnits, half: u32, products: Sums, x: f32) -> Sums {
  return vec2<f32>(
    weighed(sums[0], units[0], half, products[0], x),
    weighed(sums[1], units[1], half, products[1], x),
  );
}

fn sum_in(sums: Sums, row: u32) -> f32 { return sums[row]; }

// Sums over the lanes of a direct sum; all of them call it and get the sums.
fn direct_sums(sums: Sums, lanes: Lanes) -> Sums {
  return direct_sum_of_two(sums, lanes);
}
