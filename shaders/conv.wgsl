// Causal depthwise convolution over the rows of sequences, bias and SiLU: c_t = silu(b + sum_k w_k u_{t - (K-1) + k}).
// The last token of a sequence keeps the newest K-1 inputs.
struct Params {
  inner: u32,      // D
  u_stride: u32,   // floats from one row of u to the next
  y_stride: u32,
  versions: u32,   // versions of a slot's state
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> u: array<f32>;              // [rows, u | z], the first D columns; directions share it
@group(0) @binding(3) var<storage, read> taps: array<f32>;           // [direction][K + 1, D]: the K taps, oldest first, then the bias
@group(0) @binding(4) var<storage, read_write> y: array<f32>;        // [direction][rows, D]

override WG: u32 = 64u;

// The input `back` tokens before token t.
fn input(s: Sequence, t: u32, back: u32, d: u32) -> f32 {
  if (t >= back) { return u[shared_row(s, t - back) * params.u_stride + d]; }
  return input_before(K - 1u + t - back, d);
}

@compute @workgroup_size(WG)
fn conv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let groups = (params.inner + WG - 1u) / WG;
  let d = channels_of(group.x, groups) * WG + lane;
  let s = Sequence(picture_of(group.y), direction_of(group.x, groups));
  let t = token_of(group.y);
  if (d >= params.inner) { return; }
  let weights = weights_row(s, K + 1u);
  var sum = taps[(weights + K) * params.inner + d];
  for (var k = 0u; k < K; k++) { sum += taps[(weights + k) * params.inner + d] * input(s, t, K - 1u - k, d); }
  y[own_row(s, t) * params.y_stride + d] = silu(sum);
  if (t + 1u == sequence_rows()) {
    for (var k = 0u; k < K - 1u; k++) { keep_input(k, d, input(s, t, K - 2u - k, d)); }
  }
}
