// A step of one row: x meets a unit of each row of W as a whole.
fn add(sums: ptr<function, array<Sums, MOST_COLUMNS>>, units: RowUnits, token: u32, unit: u32) {
  var v: array<vec4<f32>, QUADS>;
  for (var q = 0u; q < QUADS; q++) { v[q] = load_x(x_at(token, unit, q)); }
  (*sums)[0] = dots((*sums)[0], units, v);
}
