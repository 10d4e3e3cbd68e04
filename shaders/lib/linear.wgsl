// Operands of both products: a shard of W, x and y.
struct Params {
  units: u32,     // units in a row of W
  columns: u32,   // values in a row of W
  x_stride: u32,  // vec4s from one token of x to the next
  y_stride: u32,  // floats from one token of y to the next
  first: u32,     // row of y that this shard's row 0 makes
  rows: u32,      // rows of this shard
  squares_in: u32,    // partial sums of squares per token of x, if x is normed
  squares_out: u32,   // partial sums of squares per token of y, of all shards, for the next norm
  first_square: u32,  // first of them that this shard writes
  eps: f32,           // added to the mean square of x
  order_shift: u32,   // order of the next product's input, see `placed`
  order_units: u32,
  plane: u32,         // floats from the sums of one slice of k to those of the next
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;        // [tokens, out]
