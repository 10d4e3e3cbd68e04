// What both products share: the shard of W they make, x and y.
struct Params {
  units: u32,     // units in a row of W
  columns: u32,   // values in a row of W
  x_stride: u32,  // vec4s from one token of x to the next
  y_stride: u32,  // floats from one token of y to the next
  first: u32,     // row of y that this shard's row 0 makes
  rows: u32,      // rows of this shard
  squares_in: u32,    // sums of squares that a token of x comes with, where its norm is taken
  squares_out: u32,   // sums of squares that a token of y leaves, where the next norm is made ready
  first_square: u32,  // the first of them that is this shard's
  eps: f32,           // added to the mean square of x
  order_shift: u32,   // where what the next product reads is placed, see `placed`
  order_units: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;        // [tokens, out]
