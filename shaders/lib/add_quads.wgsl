// A step of several rows of x, which share each unit of W as loaded and unpacked.
fn add(sums: ptr<function, array<Sums, MAX_X_ROWS>>, units: RowUnits, token: u32, unit: u32) {
  add_half(sums, units, token, unit, 0u);
  if (HALVES > 1u) { add_half(sums, units, token, unit, 1u); }
}

// Adds the products of half a unit of each row of W. A quad of W is unpacked once and multiplied with one quad of x at a time,
// because registers are few. Every index is a constant.
fn add_half(sums: ptr<function, array<Sums, MAX_X_ROWS>>, units: RowUnits, token: u32, unit: u32, half: u32) {
  var products = array<Sums, MAX_X_ROWS>();
  var x = array<f32, MAX_X_ROWS>();
  add_quad(&products, &x, units, token, unit, half * HALF_QUADS);
  if (HALF_QUADS > 1u) { add_quad(&products, &x, units, token, unit, half * HALF_QUADS + 1u); }
  if (HALF_QUADS > 2u) {
    add_quad(&products, &x, units, token, unit, half * HALF_QUADS + 2u);
    add_quad(&products, &x, units, token, unit, half * HALF_QUADS + 3u);
  }
  (*sums)[0] = weighed_rows((*sums)[0], units, half, products[0], x[0]);
  (*sums)[1] = weighed_rows((*sums)[1], units, half, products[1], x[1]);
  if (X_ROWS > 2u) {
    (*sums)[2] = weighed_rows((*sums)[2], units, half, products[2], x[2]);
    (*sums)[3] = weighed_rows((*sums)[3], units, half, products[3], x[3]);
  }
  if (X_ROWS > 4u) {
    (*sums)[4] = weighed_rows((*sums)[4], units, half, products[4], x[4]);
    (*sums)[5] = weighed_rows((*sums)[5], units, half, products[5], x[5]);
    (*sums)[6] = weighed_rows((*sums)[6], units, half, products[6], x[6]);
    (*sums)[7] = weighed_rows((*sums)[7], units, half, products[7], x[7]);
  }
}

// Adds the products of a quad of each row of W with the quads of all rows of x.
fn add_quad(
  products: ptr<function, array<Sums, MAX_X_ROWS>>,
  x: ptr<function, array<f32, MAX_X_ROWS>>,
  units: RowUnits,
  token: u32,
  unit: u32,
  quad: u32,
) {
  let w = row_quads(units, quad);
  add_quad_of(products, x, 0u, w, token, unit, quad);
  add_quad_of(products, x, 1u, w, token, unit, quad);
  if (X_ROWS > 2u) {
    add_quad_of(products, x, 2u, w, token, unit, quad);
    add_quad_of(products, x, 3u, w, token, unit, quad);
  }
  if (X_ROWS > 4u) {
    add_quad_of(products, x, 4u, w, token, unit, quad);
    add_quad_of(products, x, 5u, w, token, unit, quad);
    add_quad_of(products, x, 6u, w, token, unit, quad);
    add_quad_of(products, x, 7u, w, token, unit, quad);
  }
}

// Adds the products of a quad of each row of W with one quad of x.
fn add_quad_of(
  products: ptr<function, array<Sums, MAX_X_ROWS>>,
  x: ptr<function, array<f32, MAX_X_ROWS>>,
  x_row: u32,
  w: RowQuads,
  token: u32,
  unit: u32,
  quad: u32,
) {
  let v = load_x(x_at(existing(token + x_row), unit, quad));
  (*products)[x_row] += quad_dots(w, v);
  (*x)[x_row] += total_of_quad(v);
}
