// weights = softmax(scores) row by row, a workgroup per row.
@group(0) @binding(1) var<storage, read> scores: array<f32>;           // [slices, tokens, tokens padded to 4]
@group(0) @binding(2) var<storage, read_write> weights: array<f32>;    // the same; the padding becomes zero

override WG: u32 = 64u;

var<workgroup> parts: array<f32, WG>;

fn greatest(v: f32, lane: u32) -> f32 {
  parts[lane] = v;
  workgroupBarrier();
  for (var half = WG / 2u; half > 0u; half >>= 1u) {
    if (lane < half) { parts[lane] = max(parts[lane], parts[lane + half]); }
    workgroupBarrier();
  }
  let most = parts[0];
  workgroupBarrier();
  return most;
}

fn total(v: f32, lane: u32) -> f32 {
  parts[lane] = v;
  workgroupBarrier();
  for (var half = WG / 2u; half > 0u; half >>= 1u) {
    if (lane < half) { parts[lane] += parts[lane + half]; }
    workgroupBarrier();
  }
  let sum = parts[0];
  workgroupBarrier();
  return sum;
}

@compute @workgroup_size(WG)
fn attention_softmax(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let padded = 4u * row_quads();
  let first = (group.y * params.tokens + group.x) * padded;
  var most = -3.0e38;
  for (var i = lane; i < params.tokens; i += WG) { most = max(most, scores[first + i]); }
  most = greatest(most, lane);
  var sum = 0.0;
  for (var i = lane; i < params.tokens; i += WG) { sum += exp(scores[first + i] - most); }
  let scale = 1.0 / total(sum, lane);
  for (var i = lane; i < padded; i += WG) {
    var weight = 0.0;
    if (i < params.tokens) { weight = exp(scores[first + i] - most) * scale; }
    weights[first + i] = weight;
  }
}
