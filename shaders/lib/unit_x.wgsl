// The quads of x that a unit of W multiplies, in f32.
alias UnitX = array<vec4<f32>, QUADS>;

fn unit_x(token: u32, unit: u32) -> UnitX {
  var v = UnitX();
  for (var q = 0u; q < QUADS; q++) { v[q] = load_x(x_at(token, unit, q)); }
  return v;
}

fn dot_x(sum: f32, unit: Unit, v: UnitX) -> f32 { return dot_unit(sum, unit, v); }

// Position of a quad of x for a unit of W: if a unit holds 32 values, x is ordered by quads, so that adjacent lanes read adjacent
// memory.
fn x_at(token: u32, unit: u32, quad: u32) -> u32 {
  return token * params.x_stride + select(unit * QUADS + quad, quad * row_units() + unit, QUADS == 8u);
}
