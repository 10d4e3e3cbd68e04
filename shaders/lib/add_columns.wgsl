// A step of several rows, which share what is loaded and unpacked of W.
fn add(sums: ptr<function, array<Sums, MOST_COLUMNS>>, units: RowUnits, token: u32, unit: u32) {
  add_half(sums, units, token, unit, 0u);
  if (HALVES > 1u) { add_half(sums, units, token, unit, 1u); }
}

// Adds the products of half a unit of each row. A quad of W is unpacked once for all columns, and met by one of x at a time, as
// registers are few. Every index is a constant.
fn add_half(sums: ptr<function, array<Sums, MOST_COLUMNS>>, units: RowUnits, token: u32, unit: u32, half: u32) {
  var products: array<Sums, MOST_COLUMNS>;
  var x: array<f32, MOST_COLUMNS>;
  meet_all(&products, &x, units, token, unit, half * HALF_QUADS);
  if (HALF_QUADS > 1u) { meet_all(&products, &x, units, token, unit, half * HALF_QUADS + 1u); }
  if (HALF_QUADS > 2u) {
    meet_all(&products, &x, units, token, unit, half * HALF_QUADS + 2u);
    meet_all(&products, &x, units, token, unit, half * HALF_QUADS + 3u);
  }
  (*sums)[0] = weighed_rows((*sums)[0], units, half, products[0], x[0]);
  (*sums)[1] = weighed_rows((*sums)[1], units, half, products[1], x[1]);
  if (COLUMNS > 2u) {
    (*sums)[2] = weighed_rows((*sums)[2], units, half, products[2], x[2]);
    (*sums)[3] = weighed_rows((*sums)[3], units, half, products[3], x[3]);
  }
  if (COLUMNS > 4u) {
    (*sums)[4] = weighed_rows((*sums)[4], units, half, products[4], x[4]);
    (*sums)[5] = weighed_rows((*sums)[5], units, half, products[5], x[5]);
    (*sums)[6] = weighed_rows((*sums)[6], units, half, products[6], x[6]);
    (*sums)[7] = weighed_rows((*sums)[7], units, half, products[7], x[7]);
  }
}

// Adds the products of a quad of each row with those of all columns.
fn meet_all(
  products: ptr<function, array<Sums, MOST_COLUMNS>>,
  x: ptr<function, array<f32, MOST_COLUMNS>>,
  units: RowUnits,
  token: u32,
  unit: u32,
  quad: u32,
) {
  let w = row_quads(units, quad);
  meet(products, x, 0u, w, token, unit, quad);
  meet(products, x, 1u, w, token, unit, quad);
  if (COLUMNS > 2u) {
    meet(products, x, 2u, w, token, unit, quad);
    meet(products, x, 3u, w, token, unit, quad);
  }
  if (COLUMNS > 4u) {
    meet(products, x, 4u, w, token, unit, quad);
    meet(products, x, 5u, w, token, unit, quad);
    meet(products, x, 6u, w, token, unit, quad);
    meet(products, x, 7u, w, token, unit, quad);
  }
}

// Adds the products of a quad of each row with that of a column.
fn meet(
  products: ptr<function, array<Sums, MOST_COLUMNS>>,
  x: ptr<function, array<f32, MOST_COLUMNS>>,
  column: u32,
  w: RowQuads,
  token: u32,
  unit: u32,
  quad: u32,
) {
  let v = load_x(x_at(existing(token + column), unit, quad));
  (*products)[column] += quad_dots(w, v);
  (*x)[column] += total_of_quad(v);
}
