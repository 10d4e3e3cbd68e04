// A step of several rows of x, which share each load of W; whole units are multiplied. Every index is a constant.
fn add(sums: ptr<function, array<Sums, MAX_X_ROWS>>, units: RowUnits, token: u32, unit: u32) {
  (*sums)[0] = dots((*sums)[0], units, unit_x(existing(token), unit));
  (*sums)[1] = dots((*sums)[1], units, unit_x(existing(token + 1u), unit));
  if (X_ROWS > 2u) {
    (*sums)[2] = dots((*sums)[2], units, unit_x(existing(token + 2u), unit));
    (*sums)[3] = dots((*sums)[3], units, unit_x(existing(token + 3u), unit));
  }
  if (X_ROWS > 4u) {
    (*sums)[4] = dots((*sums)[4], units, unit_x(existing(token + 4u), unit));
    (*sums)[5] = dots((*sums)[5], units, unit_x(existing(token + 5u), unit));
    (*sums)[6] = dots((*sums)[6], units, unit_x(existing(token + 6u), unit));
    (*sums)[7] = dots((*sums)[7], units, unit_x(existing(token + 7u), unit));
  }
}
