// A step of one row of x: whole units are multiplied.
fn add(sums: ptr<function, array<Sums, MAX_X_ROWS>>, units: RowUnits, token: u32, unit: u32) {
  (*sums)[0] = dots((*sums)[0], units, unit_x(token, unit));
}
