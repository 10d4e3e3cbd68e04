// Epilogue: adds the residual stream and writes the input of the next norm: the stream times the norm's weights, and the sums of
// its squares over a few rows each.
@group(0) @binding(4) var<storage, read> residual: array<f32>;            // [tokens, out], laid out as y
@group(0) @binding(5) var<storage, read> next_norm: array<f32>;           // [out]
@group(0) @binding(6) var<storage, read_write> normed: array<f32>;        // [tokens, out], in the order of its consumer
@group(0) @binding(7) var<storage, read_write> next_squares: array<f32>;  // [tokens, squares_out], padded to whole vec4s

const SQUARES: bool = true;

var<private> residual_ahead: f32;
var<private> norm_ahead: f32;

// Loads all operands but the sum.
fn preload(token: u32, row: u32) {
  residual_ahead = residual[token * params.y_stride + row];
  norm_ahead = next_norm[row];
}

fn finish(token: u32, row: u32, sum: f32) -> f32 {
  let value = residual_ahead + sum;
  normed[token * params.y_stride + placed(row, params.order_shift, params.order_units)] = value * norm_ahead;
  return value;
}

fn put_squares(token: u32, part: u32, sum: f32) { next_squares[token * ((params.squares_out + 3u) / 4u * 4u) + part] = sum; }

fn y_at(token: u32, row: u32) -> u32 { return token * params.y_stride + row; }
