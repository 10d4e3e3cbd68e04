// What a unit of W meets of x: its quads, as they are.
alias UnitX = array<vec4<f32>, QUADS>;

fn unit_x(token: u32, unit: u32) -> UnitX {
  var v: UnitX;
  for (var q = 0u; q < QUADS; q++) { v[q] = load_x(x_at(token, unit, q)); }
  return v;
}

fn dot_x(sum: f32, unit: Unit, v: UnitX) -> f32 { return dot_unit(sum, unit, v); }

// Where a quad lies that a unit of W meets: where a unit holds 32 values, x is laid out by quads, so that lanes side by side
// read side by side.
fn x_at(token: u32, unit: u32, quad: u32) -> u32 {
  return token * params.x_stride + select(unit * QUADS + quad, quad * row_units() + unit, QUADS == 8u);
}
