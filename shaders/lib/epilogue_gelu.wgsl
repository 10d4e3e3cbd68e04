// Epilogue of a transformer's first MLP product: gelu(W x + bias).
@group(0) @binding(4) var<storage, read> bias: array<f32>;  // [out]

fn finish(token: u32, row: u32, sum: f32) -> f32 { return gelu(sum + bias[row]); }

const SQUARES: bool = false;

fn put_squares(token: u32, part: u32, sum: f32) {}
