// Epilogue: adds row (token mod R) of a table of R rows that is laid out as y.
@group(0) @binding(4) var<storage, read> table: array<f32>;  // [R, out]

fn finish(token: u32, row: u32, sum: f32) -> f32 {
  let table_rows = arrayLength(&table) / params.y_stride;
  return sum + table[token % table_rows * params.y_stride + row];
}

const SQUARES: bool = false;

fn put_squares(token: u32, part: u32, sum: f32) {}
