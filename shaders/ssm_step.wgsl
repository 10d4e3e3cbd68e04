// One token of the selective scan for each decoding row: reads one version of the slot's state, writes the next.
@group(0) @binding(1) var<storage, read> rows: array<Row>;           // [rows]
@group(0) @binding(2) var<storage, read> dt: array<f32>;             // [rows, D]
@group(0) @binding(3) var<storage, read> x: array<f32>;              // [rows, D], after the convolution
@group(0) @binding(4) var<storage, read> z: array<f32>;              // [rows, u | z]
@group(0) @binding(5) var<storage, read> dbc: array<f32>;            // [rows, dt | B | C]
@group(0) @binding(6) var<storage, read> a_skip: array<f32>;         // [N + 1, D]: A log2(e), then the skip D
@group(0) @binding(7) var<storage, read_write> state: array<f32>;    // [slot][version][N][D]
@group(0) @binding(8) var<storage, read_write> y: array<f32>;        // [rows, D]

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn ssm_step(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let d = group.x * WG + lane;
  let r = group.y;
  if (d >= params.inner) { return; }
  let row = rows[r];
  let old_at = (row.slot * params.versions + row.version % params.versions) * N;
  let new_at = (row.slot * params.versions + (row.version + 1u) % params.versions) * N;
  let dt_r = dt[r * params.stride + d];
  let x_r = x[r * params.stride + d];
  let b = r * params.dbc_stride + params.b_first;
  var sum = 0.0;
  for (var n = 0u; n < N; n++) {
    let h = recur(state[(old_at + n) * params.inner + d], dt_r, a_skip[n * params.inner + d], dt_r * x_r, dbc[b + n]);
    state[(new_at + n) * params.inner + d] = h;
    sum += dbc[b + N + n] * h;
  }
  let skip = a_skip[N * params.inner + d];
  y[r * params.stride + d] = (sum + skip * x_r) * silu(z[r * params.z_stride + params.z_first + d]);
}
