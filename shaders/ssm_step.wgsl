// One token of the selective scan for each decoding row, from x_proj's output to the gated y: the norms of dt, B and C,
// dt_proj with softplus, the step of the state from one version to the next, the skip D and the gate.
// LANES lanes share a channel: its row of dt_proj and its states. A workgroup takes COLUMNS rows one after the other:
// from the second on, its part of dt_proj and A comes from the caches.
struct Params {
  inner: u32,      // D
  first: u32,      // channel that this shard of dt_proj begins with
  rows: u32,       // channels of this shard
  units: u32,      // units in a row of dt_proj
  dt_rank: u32,    // R
  p_stride: u32,   // floats from one row of projected to the next
  xg_stride: u32,
  y_stride: u32,
  versions: u32,   // versions of a slot's state
  normed: u32,     // 1: the three norms of Falcon Mamba
  eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
// Binding 2 is x: projected, [rows, dt | B | C].
@group(0) @binding(3) var<storage, read> rows: array<Row>;      // [rows]
@group(0) @binding(4) var<storage, read> xg: array<f32>;        // [rows, x | gate], both after SiLU
@group(0) @binding(5) var<storage, read> dt_bias: array<f32>;   // [D]
@group(0) @binding(6) var<storage, read> a_skip: array<f32>;    // [N + 1, D]: A log2(e), then the skip D
@group(0) @binding(7) var<storage, read_write> state: array<f32>;  // [slot][version][N][D]
@group(0) @binding(8) var<storage, read_write> y: array<f32>;   // [rows, D]

@compute @workgroup_size(WG)
fn ssm_step(lanes: Lanes) {
  let first = lanes.group.y * COLUMNS;
  if (COLUMNS == 1u) {
    step(first, lanes);  // a CPU driver masks whatever stands in a loop
  } else {
    for (var r = first; r < min(first + COLUMNS, batch.rows); r++) { step(r, lanes); }
  }
}

fn step(r: u32, lanes: Lanes) {
  let p = r * params.p_stride;
  let b = p + params.dt_rank;

  // Each team takes the scales for itself: a few hundred values, and no barrier between teams.
  var scale = vec3<f32>(1.0);
  if (params.normed == 1u) {
    var squares = vec4<f32>();
    for (var i = team_lane(lanes); i < params.dt_rank; i += team_size(lanes)) { squares.x += value(p + i) * value(p + i); }
    for (var n = team_lane(lanes); n < N; n += team_size(lanes)) {
      squares.y += value(b + n) * value(b + n);
      squares.z += value(b + N + n) * value(b + N + n);
    }
    let means = team_sum(squares, lanes).xyz / vec3<f32>(f32(params.dt_rank), f32(N), f32(N));
    scale = inverseSqrt(means + params.eps);
  }

  let channel = lanes.group.x * (WG / LANES) + lanes.index / LANES;
  let part = lanes.index % LANES;
  let own = min(channel, params.rows - 1u);  // lanes past the shard keep step and write nothing
  let d = params.first + own;

  var sum = 0.0;
  for (var unit = part; unit < params.units; unit += LANES) {
    var v: array<vec4<f32>, QUADS>;
    for (var q = 0u; q < QUADS; q++) { v[q] = load_x(p / 4u + unit * QUADS + q); }
    sum += dot_unit(load_unit(own, unit, params.units), v);
  }
  let dt = softplus(channel_sum(sum) * scale.x + dt_bias[d]);

  let entry = rows[r];
  let old_at = (entry.slot * params.versions + entry.version % params.versions) * N;
  let new_at = (entry.slot * params.versions + (entry.version + 1u) % params.versions) * N;
  let u = xg[r * params.xg_stride + d];
  var readout = 0.0;
  for (var n = part; n < N; n += LANES) {
    let old = state[(old_at + n) * params.inner + d];
    let h = recur(old, dt, a_skip[n * params.inner + d], dt * u, value(b + n) * scale.y);
    if (channel < params.rows) { state[(new_at + n) * params.inner + d] = h; }
    readout += value(b + N + n) * scale.z * h;
  }
  let total = channel_sum(readout) + a_skip[N * params.inner + d] * u;
  if (part == 0u && channel < params.rows) {
    y[r * params.y_stride + d] = total * xg[r * params.xg_stride + params.inner + d];
  }
}
