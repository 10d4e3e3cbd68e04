// Operands of the local pass of a scan.
struct Params {
  inner: u32,       // D
  stride: u32,      // floats from one row of dt or x to the next
  dbc_stride: u32,
  b_first: u32,     // column of dbc where B begins
  segment: u32,     // tokens in a segment
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> dt: array<f32>;             // [direction][rows, D]
@group(0) @binding(3) var<storage, read> x: array<f32>;              // [direction][rows, D], after the convolution
@group(0) @binding(4) var<storage, read> dbc: array<f32>;            // [direction][rows, dt | B | C]
@group(0) @binding(5) var<storage, read> a_skip: array<f32>;         // [direction][N + 1, D]: A log2(e), then the skip D
@group(0) @binding(6) var<storage, read_write> carry: array<f32>;    // [sequence][segments, N, D]
@group(0) @binding(7) var<storage, read_write> dt_sum: array<f32>;   // [sequence][segments, D]
