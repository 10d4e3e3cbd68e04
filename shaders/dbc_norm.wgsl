// Splits a row of x_proj's output into dt, B and C. Falcon Mamba divides each by its RMS, without weights; Mamba only copies them.
// The output is a sum of SLICES planes, added in their order.
struct Params {
  dt_rank: u32,
  state: u32,       // N
  x_stride: u32,    // floats from one row of x to the next
  plane: u32,       // floats from one plane of x to the next
  dbc_stride: u32,  // floats from one row of dbc to the next
  b_first: u32,     // column of dbc where B begins; C follows it
  normed: u32,      // 1: the three norms of Falcon Mamba
  eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;              // [SLICES][rows, dt_rank + 2 N]: dt | B | C
@group(0) @binding(2) var<storage, read_write> dbc: array<f32>;      // [rows, dt_rank padded | B | C]

fn sum_of_planes(at: u32) -> f32 {
  var sum = x[at];
  for (var slice = 1u; slice < SLICES; slice++) { sum += x[slice * params.plane + at]; }
  return sum;
}

// One of the three parts: `count` values from a row of x to a row of dbc.
fn put(x_first: u32, dbc_first: u32, count: u32, group: Group, lanes: Lanes) {
  var squares = 0.0;
  for (var i = lanes.index; i < count; i += WG) {
    let value = sum_of_planes(x_first + i);
    dbc[dbc_first + i] = value;
    squares += value * value;
  }
  if (params.normed == 1u) {
    let scale = inverseSqrt(workgroup_sum(squares, group, lanes) / f32(count) + params.eps);
    // Each lane scales the values that it has written.
    for (var i = lanes.index; i < count; i += WG) { dbc[dbc_first + i] *= scale; }
  }
}

@compute @workgroup_size(WG)
fn dbc_norm(group: Group, lanes: Lanes) {
  let x_first = group.id.x * params.x_stride;
  let dbc_first = group.id.x * params.dbc_stride;
  let b_from = x_first + params.dt_rank;
  let b_to = dbc_first + params.b_first;
  put(x_first, dbc_first, params.dt_rank, group, lanes);
  put(b_from, b_to, params.state, group, lanes);
  put(b_from + params.state, b_to + params.state, params.state, group, lanes);
}
