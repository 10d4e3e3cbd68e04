// A team makes 8 rows of W at a time.
const TEAM_ROWS: u32 = 8u;
alias Sums = mat2x4<f32>;
alias RowUnits = array<Unit, TEAM_ROWS>;
alias RowQuads = array<vec4<f32>, TEAM_ROWS>;

// One unit of each. Rows past the last read the last again; their results are dropped.
fn load_rows(row: u32, unit: u32) -> RowUnits {
  let last = params.rows - 1u;
  return RowUnits(
    load_unit(min(row, last), unit, row_units()),
    load_unit(min(row + 1u, last), unit, row_units()),
    load_unit(min(row + 2u, last), unit, row_units()),
    load_unit(min(row + 3u, last), unit, row_units()),
    load_unit(min(row + 4u, last), unit, row_units()),
    load_unit(min(row + 5u, last), unit, row_units()),
    load_unit(min(row + 6u, last), unit, row_units()),
    load_unit(min(row + 7u, last), unit, row_units()),
  );
}

// Adds the products of a unit of each row.
fn dots(sums: Sums, units: RowUnits, v: UnitX) -> Sums {
  return mat2x4<f32>(
    dot_x(sums[0][0], units[0], v),
    dot_x(sums[0][1], units[1], v),
    dot_x(sums[0][2], units[2], v),
    dot_x(sums[0][3], units[3], v),
    dot_x(sums[1][0], units[4], v),
    dot_x(sums[1][1], units[5], v),
    dot_x(sums[1][2], units[6], v),
    dot_x(sums[1][3], units[7], v),
  );
}

fn row_quads(units: RowUnits, quad: u32) -> RowQuads {
  return RowQuads(
    weight_quad(units[0], quad),
    weight_quad(units[1], quad),
    weight_quad(units[2], quad),
    weight_quad(units[3], quad),
    weight_quad(units[4], quad),
    weight_quad(units[5], quad),
    weight_quad(units[6], quad),
    weight_quad(units[7], quad),
  );
}

fn quad_dots(weights: RowQuads, v: vec4<f32>) -> Sums {
  return mat2x4<f32>(
    dot(weights[0], v),
    dot(weights[1], v),
    dot(weights[2], v),
    dot(weights[3], v),
    dot(weights[4], v),
    dot(weights[5], v),
    dot(weights[6], v),
    dot(weights[7], v),
  );
}

fn weighed_rows(sums: Sums, units: RowUnits, half: u32, products: Sums, x: f32) -> Sums {
  return mat2x4<f32>(
    weighed(sums[0][0], units[0], half, products[0][0], x),
    weighed(sums[0][1], units[1], half, products[0][1], x),
    weighed(sums[0][2], units[2], half, products[0][2], x),
    weighed(sums[0][3], units[3], half, products[0][3], x),
    weighed(sums[1][0], units[4], half, products[1][0], x),
    weighed(sums[1][1], units[5], half, products[1][1], x),
    weighed(sums[1][2], units[6], half, products[1][2], x),
    weighed(sums[1][3], units[7], half, products[1][3], x),
  );
}

fn sum_in(sums: Sums, row: u32) -> f32 { return select(sums[0], sums[1], row >= 4u)[row % 4u]; }

// Sums over the lanes of a direct sum; all of them call it and get the sums.
fn direct_sums(sums: Sums, lanes: Lanes) -> Sums {
  return mat2x4<f32>(direct_sum_of_four(sums[0], lanes), direct_sum_of_four(sums[1], lanes));
}
