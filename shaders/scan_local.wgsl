// First pass of a scan in several segments: each segment runs from h = 0 and leaves its last h and the sum of its dt.
// exp(A * that sum) is the product of all its decays.
struct Params {
  inner: u32,       // D
  stride: u32,      // floats from one row of dt or x to the next
  dbc_stride: u32,
  b_first: u32,     // column of dbc where B begins
  segment: u32,     // tokens in a segment
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> dt: array<f32>;             // [rows, D]
@group(0) @binding(3) var<storage, read> x: array<f32>;              // [rows, D], after the convolution
@group(0) @binding(4) var<storage, read> dbc: array<f32>;            // [rows, dt | B | C]
@group(0) @binding(5) var<storage, read> a_skip: array<f32>;         // [N + 1, D]: A log2(e), then the skip D
@group(0) @binding(6) var<storage, read_write> carry: array<f32>;    // [segments, N, D]
@group(0) @binding(7) var<storage, read_write> dt_sum: array<f32>;   // [segments, D]

@compute @workgroup_size(WG)
fn scan_local(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let d = group.x * WG + lane;
  let segment = group.y;
  if (d >= params.inner) { return; }
  let end = min(batch.rows, (segment + 1u) * params.segment);
  var h: array<f32, N>;
  var sum = 0.0;
  for (var t = segment * params.segment; t < end; t++) {
    let dt_t = dt[t * params.stride + d];
    let dt_x = dt_t * x[t * params.stride + d];
    let b = t * params.dbc_stride + params.b_first;
    sum += dt_t;
    for (var n = 0u; n < N; n++) { h[n] = recur(h[n], dt_t, a_skip[n * params.inner + d], dt_x, dbc[b + n]); }
  }
  for (var n = 0u; n < N; n++) { carry[(segment * N + n) * params.inner + d] = h[n]; }
  dt_sum[segment * params.inner + d] = sum;
}
