// y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias, one workgroup per row.
struct Params {
  dim: u32,       // width of a row
  x_stride: u32,  // floats from one row of x to the next
  x_first: u32,   // first float of x
  y_stride: u32,
  eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;              // [rows, dim]
@group(0) @binding(2) var<storage, read> weight: array<f32>;         // [dim]
@group(0) @binding(3) var<storage, read> bias: array<f32>;           // [dim]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;        // [rows, dim]

@compute @workgroup_size(WG)
fn layer_norm(group: Group, lanes: Lanes) {
  let x_first = params.x_first + group.id.x * params.x_stride;
  let y_first = group.id.x * params.y_stride;
  var sum = 0.0;
  for (var i = lanes.index; i < params.dim; i += WG) { sum += x[x_first + i]; }
  let mean = workgroup_sum(sum, group, lanes) / f32(params.dim);
  // From the differences: the mean of the squares less the square of the mean loses the variance of values far from 0.
  var squares = 0.0;
  for (var i = lanes.index; i < params.dim; i += WG) {
    let difference = x[x_first + i] - mean;
    squares += difference * difference;
  }
  let scale = inverseSqrt(workgroup_sum(squares, group, lanes) / f32(params.dim) + params.eps);
  for (var i = lanes.index; i < params.dim; i += WG) {
    y[y_first + i] = (x[x_first + i] - mean) * scale * weight[i] + bias[i];
  }
}
