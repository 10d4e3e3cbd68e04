// One token of the selective scan for each decoding row, from x_proj's output to the gated y: the norms of dt, B and C, dt_proj
// with softplus, the step of the state from one version to the next, the skip D and the gate. LANES lanes share a channel: its
// row of dt_proj and its states. A workgroup takes ROWS rows one after the other; from the second on, its part of dt_proj and A
// comes from the caches.
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
  gate_first: u32,  // offset of the gate in a row of xg
  x_shift: u32,     // order of x and y, see `placed`
  y_shift: u32,
  order_units: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
// Binding 2 is x: projected, [rows, dt | B | C].
@group(0) @binding(3) var<storage, read> rows: array<RowEntry>;      // [rows]
@group(0) @binding(4) var<storage, read> xg: array<f32>;        // [rows, x | gate], both after SiLU
@group(0) @binding(5) var<storage, read> dt_bias: array<f32>;   // [D]
@group(0) @binding(6) var<storage, read> a_skip: array<f32>;    // [N + 1, D]: A log2(e), then the skip D
@group(0) @binding(7) var<storage, read_write> state: array<f32>;  // [slot][version][N][D]
// Binding 8 is y.

const SHARE: u32 = (N + LANES - 1u) / LANES;  // states of a lane

@compute @workgroup_size(WG)
fn ssm_step(group: Group, lanes: Lanes) {
  prepare_weights(lanes.index, WG);
  let first = group.id.y * ROWS;
  if (ROWS == 1u) {
    step(first, group, lanes);  // a CPU driver masks every instruction of a loop
  } else {
    for (var r = first; r < min(first + ROWS, batch.rows); r++) { step(r, group, lanes); }
  }
}

// Units in a row of dt_proj: a constant, so that all loads of a row can be in flight at once, or a parameter if UNITS is 0.
fn row_units() -> u32 {
  if (UNITS > 0u) { return UNITS; }
  return params.units;
}

fn step(r: u32, group: Group, lanes: Lanes) {
  let p = r * params.p_stride;
  let b = p + params.dt_rank;
  let channel = group.id.x * (WG / LANES) + lanes.index / LANES;
  let part = lanes.index % LANES;
  let own = min(channel, params.rows - 1u);  // lanes past the shard compute and write nothing
  let d = params.first + own;

  // Loads that do not depend on dt come first.
  let entry = rows[r];
  let old_at = (entry.slot * params.versions + entry.version % params.versions) * N;
  let new_at = (entry.slot * params.versions + (entry.version + 1u) % params.versions) * N;
  var old = array<f32, SHARE>();
  var a = array<f32, SHARE>();
  for (var i = 0u; i < SHARE; i++) {
    let n = min(part + i * LANES, N - 1u);
    old[i] = state[(old_at + n) * params.inner + d];
    a[i] = a_skip[n * params.inner + d];
  }
  let line = r * params.xg_stride;
  let u = xg[line + placed(d, params.x_shift, params.order_units)];
  let gate = xg[line + params.gate_first + d];
  let skip = a_skip[N * params.inner + d];
  let bias = dt_bias[d];

  var sum = 0.0;
  for (var base = 0u; base < row_units(); base += LANES) {
    let unit = base + part;
    if ((UNITS % LANES == 0u && UNITS > 0u) || unit < row_units()) { sum = with_products(sum, own, unit, p); }
  }

  let scale = norm_scales(p, b, group, lanes);
  let dt = softplus(channel_sum(sum) * scale.x + bias);

  var readout = 0.0;
  for (var i = 0u; i < SHARE; i++) {
    let n = part + i * LANES;
    if (n < N) {
      let h = recur(old[i], dt, a[i], dt * u, value(b + n) * scale.y);
      if (channel < params.rows) { state[(new_at + n) * params.inner + d] = h; }
      readout += value(b + N + n) * scale.z * h;
    }
  }
  let total = channel_sum(readout) + skip * u;
  put(r, d, total * gate, part == 0u && channel < params.rows, lanes);
  write_groups(r, group, lanes);
}

// `sum` plus the products of one unit of a channel's row of dt_proj.
fn with_products(sum: f32, row: u32, unit: u32, p: u32) -> f32 {
  var v = array<vec4<f32>, QUADS>();
  for (var q = 0u; q < QUADS; q++) { v[q] = load_x(p / 4u + unit * QUADS + q); }
  return dot_unit(sum, load_unit(row, unit, row_units()), v);
}

// The scales of the norms of dt, B and C. Each team computes them itself: a few hundred values, and no barrier between teams.
fn norm_scales(p: u32, b: u32, group: Group, lanes: Lanes) -> vec3<f32> {
  if (params.normed == 0u) { return vec3<f32>(1.0); }
  var squares = vec4<f32>();
  if (DT_RANK % 4u == 0u && N % 4u == 0u && DT_RANK > 0u) {
    for (var i = team_lane(lanes); i < DT_RANK / 4u; i += team_size(group)) {
      let v = load_x(p / 4u + i);
      squares.x += dot(v, v);
    }
    for (var i = team_lane(lanes); i < N / 4u; i += team_size(group)) {
      let v = load_x(b / 4u + i);
      let w = load_x(b / 4u + N / 4u + i);
      squares.y += dot(v, v);
      squares.z += dot(w, w);
    }
  } else {
    for (var i = team_lane(lanes); i < params.dt_rank; i += team_size(group)) { squares.x += value(p + i) * value(p + i); }
    for (var n = team_lane(lanes); n < N; n += team_size(group)) {
      squares.y += value(b + n) * value(b + n);
      squares.z += value(b + N + n) * value(b + N + n);
    }
  }
  let means = team_sum(squares, lanes).xyz / vec3<f32>(f32(params.dt_rank), f32(N), f32(N));
  return inverseSqrt(means + params.eps);
}
