// y = x / sqrt(mean(x^2) + eps) * weight, one workgroup per row.
struct Params {
  dim: u32,       // hidden size
  x_stride: u32,  // floats from one row of x to the next
  x_first: u32,   // floats before the first row of x
  y_stride: u32,  // floats from one row of y to the next
  eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> x: array<f32>;              // [rows, hidden]; row 0 of y is row batch.first of x
@group(0) @binding(3) var<storage, read> weight: array<f32>;         // [hidden]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;        // [rows, hidden]

@compute @workgroup_size(WG)
fn rms_norm(group: Group, lanes: Lanes) {
  let x_first = params.x_first + (batch.first + group.id.x) * params.x_stride;
  let y_first = group.id.x * params.y_stride;
  var squares = 0.0;
  for (var i = lanes.index; i < params.dim; i += WG) { squares += x[x_first + i] * x[x_first + i]; }
  let scale = inverseSqrt(workgroup_sum(squares, group, lanes) / f32(params.dim) + params.eps);
  for (var i = lanes.index; i < params.dim; i += WG) { y[y_first + i] = x[x_first + i] * scale * weight[i]; }
}
