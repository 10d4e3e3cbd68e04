// One token of the causal convolution for each decoding row: reads one version of the slot's state, writes the next.
struct Params {
  inner: u32,      // D
  u_stride: u32,   // floats from one row of u to the next
  y_stride: u32,
  versions: u32,   // versions of a slot's state
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<Row>;           // [rows]
@group(0) @binding(2) var<storage, read> u: array<f32>;              // [rows, u | z], the first D columns
@group(0) @binding(3) var<storage, read> taps: array<f32>;           // [K + 1, D]: the K taps, oldest first, then the bias
@group(0) @binding(4) var<storage, read_write> state: array<f32>;    // [slot][version][K - 1][D], oldest first
@group(0) @binding(5) var<storage, read_write> y: array<f32>;        // [rows, D]

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn conv_step(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let d = group.x * WG + lane;
  let r = group.y;
  if (d >= params.inner) { return; }
  let row = rows[r];
  let size = (K - 1u) * params.inner;
  let old_at = (row.slot * params.versions + row.version % params.versions) * size + d;
  let new_at = (row.slot * params.versions + (row.version + 1u) % params.versions) * size + d;
  let newest = u[r * params.u_stride + d];
  var sum = taps[K * params.inner + d] + taps[(K - 1u) * params.inner + d] * newest;
  for (var k = 0u; k < K - 1u; k++) {
    let old = state[old_at + k * params.inner];
    sum += taps[k * params.inner + d] * old;
    if (k > 0u) { state[new_at + (k - 1u) * params.inner] = old; }
  }
  state[new_at + (K - 2u) * params.inner] = newest;
  y[r * params.y_stride + d] = silu(sum);
}
