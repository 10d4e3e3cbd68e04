// A step of one row: x meets a unit of each row of W as a whole.
fn add(sums: ptr<function, array<Sums, MOST_COLUMNS>>, units: RowUnits, token: u32, unit: u32) {
  (*sums)[0] = dots((*sums)[0], units, unit_x(token, unit));
}
