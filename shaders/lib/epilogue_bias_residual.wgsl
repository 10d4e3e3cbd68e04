// Epilogue: adds a bias and the residual stream.
@group(0) @binding(4) var<storage, read> bias: array<f32>;      // [out]
@group(0) @binding(5) var<storage, read> residual: array<f32>;  // [tokens, out], laid out as y

fn finish(token: u32, row: u32, sum: f32) -> f32 {
  return residual[token * params.y_stride + row] + (sum + bias[row]);
}

const SQUARES: bool = false;

fn put_squares(token: u32, part: u32, sum: f32) {}
