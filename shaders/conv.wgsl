// Causal depthwise convolution over the tokens of a chunk, bias and SiLU: c_t = silu(b + sum_k w_k u_{t - (K-1) + k}).
// Inputs before the chunk come from the slot's state; the last token writes the newest K-1 inputs to it.
struct Params {
  inner: u32,      // D
  u_stride: u32,   // floats from one row of u to the next
  y_stride: u32,
  versions: u32,   // versions of a slot's state
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> u: array<f32>;              // [rows, u | z], the first D columns
@group(0) @binding(3) var<storage, read> taps: array<f32>;           // [K + 1, D]: the K taps, oldest first, then the bias
@group(0) @binding(4) var<storage, read_write> state: array<f32>;    // [slot][version][K - 1][D], oldest first
@group(0) @binding(5) var<storage, read_write> y: array<f32>;        // [rows, D]

override WG: u32 = 64u;

fn state_at(version: u32, column: u32, d: u32) -> u32 {
  return ((batch.slot * params.versions + version) * (K - 1u) + column) * params.inner + d;
}

// The input `back` tokens before the first of the chunk (back >= 1), or of the chunk itself.
fn input(t: u32, back: u32, d: u32) -> f32 {
  if (t >= back) { return u[(t - back) * params.u_stride + d]; }
  return state[state_at(batch.read_version, K - 1u + t - back, d)];
}

@compute @workgroup_size(WG)
fn conv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let d = group.x * WG + lane;
  let t = group.y;
  if (d >= params.inner) { return; }
  var sum = taps[K * params.inner + d];
  for (var k = 0u; k < K; k++) { sum += taps[k * params.inner + d] * input(t, K - 1u - k, d); }
  y[t * params.y_stride + d] = silu(sum);
  if (t + 1u == batch.rows) {
    for (var k = 0u; k < K - 1u; k++) { state[state_at(batch.write_version, k, d)] = input(t, K - 2u - k, d); }
  }
}
