// One token of the selective scan for each decoding row, from x_proj's output to the gated y: the norms of dt, B and C,
// dt_proj with softplus, the step of the state from one version to the next, the skip D and the gate.
// LANES lanes share a channel: its row of dt_proj and its states. COLUMNS rows share what is loaded of dt_proj and A.
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
  let channel = lanes.group.x * (WG / LANES) + lanes.index / LANES;
  let part = lanes.index % LANES;
  let own = min(channel, params.rows - 1u);  // lanes past the shard keep step and write nothing
  let d = params.first + own;

  var scales: array<vec3<f32>, MOST_COLUMNS>;
  for (var c = 0u; c < COLUMNS; c++) { scales[c] = norm_scales(existing(first + c), lanes); }

  // Every index is a constant: what belongs to a row stays in registers.
  var dt: array<f32, MOST_COLUMNS>;
  for (var unit = part; unit < params.units; unit += LANES) {
    let weights = load_unit(own, unit, params.units);
    dt[0] += product(weights, first, unit);
    if (COLUMNS > 1u) { dt[1] += product(weights, first + 1u, unit); }
    if (COLUMNS > 2u) {
      dt[2] += product(weights, first + 2u, unit);
      dt[3] += product(weights, first + 3u, unit);
    }
    if (COLUMNS > 4u) {
      dt[4] += product(weights, first + 4u, unit);
      dt[5] += product(weights, first + 5u, unit);
      dt[6] += product(weights, first + 6u, unit);
      dt[7] += product(weights, first + 7u, unit);
    }
  }

  var columns: array<Column, MOST_COLUMNS>;
  columns[0] = begin(first, d, dt[0], scales[0]);
  if (COLUMNS > 1u) { columns[1] = begin(first + 1u, d, dt[1], scales[1]); }
  if (COLUMNS > 2u) {
    columns[2] = begin(first + 2u, d, dt[2], scales[2]);
    columns[3] = begin(first + 3u, d, dt[3], scales[3]);
  }
  if (COLUMNS > 4u) {
    columns[4] = begin(first + 4u, d, dt[4], scales[4]);
    columns[5] = begin(first + 5u, d, dt[5], scales[5]);
    columns[6] = begin(first + 6u, d, dt[6], scales[6]);
    columns[7] = begin(first + 7u, d, dt[7], scales[7]);
  }
  for (var n = part; n < N; n += LANES) {
    let a = a_skip[n * params.inner + d];
    columns[0].readout += advance(columns[0], channel, d, n, a);
    if (COLUMNS > 1u) { columns[1].readout += advance(columns[1], channel, d, n, a); }
    if (COLUMNS > 2u) {
      columns[2].readout += advance(columns[2], channel, d, n, a);
      columns[3].readout += advance(columns[3], channel, d, n, a);
    }
    if (COLUMNS > 4u) {
      columns[4].readout += advance(columns[4], channel, d, n, a);
      columns[5].readout += advance(columns[5], channel, d, n, a);
      columns[6].readout += advance(columns[6], channel, d, n, a);
      columns[7].readout += advance(columns[7], channel, d, n, a);
    }
  }
  finish(columns[0], channel, d, part);
  if (COLUMNS > 1u) { finish(columns[1], channel, d, part); }
  if (COLUMNS > 2u) {
    finish(columns[2], channel, d, part);
    finish(columns[3], channel, d, part);
  }
  if (COLUMNS > 4u) {
    finish(columns[4], channel, d, part);
    finish(columns[5], channel, d, part);
    finish(columns[6], channel, d, part);
    finish(columns[7], channel, d, part);
  }
}

// What a row needs on its way through the states of a channel.
struct Column {
  row: u32,
  b: u32,        // where its B begins; C follows
  old_at: u32,   // its state, before and after
  new_at: u32,
  x: f32,
  dt: f32,
  b_scale: f32,
  c_scale: f32,
  readout: f32,
}

// What the norms multiply dt, B and C with. Each team takes the scales for itself: a few hundred values, and no barrier
// between teams.
fn norm_scales(row: u32, lanes: Lanes) -> vec3<f32> {
  if (params.normed == 0u) { return vec3<f32>(1.0); }
  let p = row * params.p_stride;
  let b = p + params.dt_rank;
  var squares = vec4<f32>();
  for (var i = team_lane(lanes); i < params.dt_rank; i += team_size(lanes)) { squares.x += value(p + i) * value(p + i); }
  for (var n = team_lane(lanes); n < N; n += team_size(lanes)) {
    squares.y += value(b + n) * value(b + n);
    squares.z += value(b + N + n) * value(b + N + n);
  }
  let means = team_sum(squares, lanes).xyz / vec3<f32>(f32(params.dt_rank), f32(N), f32(N));
  return inverseSqrt(means + params.eps);
}

// A unit of dt_proj with a row's dt.
fn product(weights: Unit, row: u32, unit: u32) -> f32 {
  let first = existing(row) * params.p_stride / 4u + unit * QUADS;
  var v: array<vec4<f32>, QUADS>;
  for (var q = 0u; q < QUADS; q++) { v[q] = load_x(first + q); }
  return dot_unit(weights, v);
}

fn begin(row: u32, d: u32, dt: f32, scale: vec3<f32>) -> Column {
  let real = existing(row);
  let entry = rows[real];
  return Column(
    row,
    real * params.p_stride + params.dt_rank,
    (entry.slot * params.versions + entry.version % params.versions) * N,
    (entry.slot * params.versions + (entry.version + 1u) % params.versions) * N,
    xg[real * params.xg_stride + d],
    softplus(channel_sum(dt) * scale.x + dt_bias[d]),
    scale.y,
    scale.z,
    0.0,
  );
}

// Moves a state of the channel on and gives what it adds to the readout.
fn advance(column: Column, channel: u32, d: u32, n: u32, a: f32) -> f32 {
  let old = state[(column.old_at + n) * params.inner + d];
  let h = recur(old, column.dt, a, column.dt * column.x, value(column.b + n) * column.b_scale);
  if (channel < params.rows && column.row < batch.rows) { state[(column.new_at + n) * params.inner + d] = h; }
  return value(column.b + N + n) * column.c_scale * h;
}

fn finish(column: Column, channel: u32, d: u32, part: u32) {
  let total = channel_sum(column.readout) + a_skip[N * params.inner + d] * column.x;
  if (part == 0u && channel < params.rows && column.row < batch.rows) {
    y[column.row * params.y_stride + d] = total * xg[column.row * params.xg_stride + params.inner + d];
  }
}
