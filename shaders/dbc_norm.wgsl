// Splits a row of x_proj's output into dt, B and C. Falcon Mamba divides each by its RMS, without weights; Mamba only copies them.
struct Params {
  dt_rank: u32,
  state: u32,       // N
  x_stride: u32,    // floats from one row of x to the next
  dbc_stride: u32,  // floats from one row of dbc to the next
  b_first: u32,     // column of dbc where B begins; C follows it
  normed: u32,      // 1: the three norms of Falcon Mamba
  eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;              // [rows, dt_rank + 2 N]: dt | B | C
@group(0) @binding(2) var<storage, read_write> dbc: array<f32>;      // [rows, dt_rank padded | B | C]

fn rms_scale(first: u32, count: u32, group: Group, lanes: Lanes) -> f32 {
  var squares = 0.0;
  for (var i = lanes.index; i < count; i += WG) { squares += x[first + i] * x[first + i]; }
  return inverseSqrt(workgroup_sum(squares, group, lanes) / f32(count) + params.eps);
}

@compute @workgroup_size(WG)
fn dbc_norm(group: Group, lanes: Lanes) {
  let x_first = group.id.x * params.x_stride;
  let dbc_first = group.id.x * params.dbc_stride;
  let b_from = x_first + params.dt_rank;
  let c_from = b_from + params.state;
  var scale = vec3<f32>(1.0);
  if (params.normed == 1u) {
    scale.x = rms_scale(x_first, params.dt_rank, group, lanes);
    scale.y = rms_scale(b_from, params.state, group, lanes);
    scale.z = rms_scale(c_from, params.state, group, lanes);
  }
  for (var i = lanes.index; i < params.dt_rank; i += WG) { dbc[dbc_first + i] = x[x_first + i] * scale.x; }
  for (var i = lanes.index; i < params.state; i += WG) {
    dbc[dbc_first + params.b_first + i] = x[b_from + i] * scale.y;
    dbc[dbc_first + params.b_first + params.state + i] = x[c_from + i] * scale.z;
  }
}
