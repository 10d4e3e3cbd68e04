// y = softmax(Q K^T scale) V for QUERIES rows of one head of one picture, by the online softmax of FlashAttention (Dao et al. 2022,
// algorithm 1): K and V pass through workgroup memory KEYS rows at a time, and nothing of size tokens x tokens is stored. A
// query's row of Q and of y are in the registers of SPLITS lanes, each of which takes every SPLITS-th part of the keys.
const SHARE: u32 = KEYS / SPLITS;
const LANES: u32 = QUERIES * SPLITS;
const LOWEST: f32 = -3.0e38;

// Keys, then values: each [KEYS, QUADS]. After the last tile, what a split of the keys found: [QUADS, QUERIES] of y, then the
// largest score and the sum of the weights of each query.
var<workgroup> tile: array<vec4<f32>, 2u * KEYS * QUADS>;

@compute @workgroup_size(LANES)
fn attention(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let picture = group.y / params.heads;
  let head = group.y % params.heads;
  let first = picture * params.tokens * params.qkv_stride + head * QUADS;
  let to_keys = params.heads * QUADS;
  let last = params.tokens - 1u;
  let own = lane % QUERIES;
  let split = lane / QUERIES;
  let query = group.x * QUERIES + own;

  var q = array<vec4<f32>, QUADS>();
  var sums = array<vec4<f32>, QUADS>();
  let q_first = first + min(query, last) * params.qkv_stride;
  for (var i = 0u; i < QUADS; i++) { q[i] = qkv[q_first + i] * params.scale; }
  var most = LOWEST;
  var total = 0.0;

  for (var key = 0u; key < params.tokens; key += KEYS) {
    workgroupBarrier();
    for (var i = lane; i < KEYS * QUADS; i += LANES) {
      let at = first + min(key + i / QUADS, last) * params.qkv_stride + i % QUADS;
      tile[i] = qkv[at + to_keys];
      tile[KEYS * QUADS + i] = qkv[at + 2u * to_keys];
    }
    workgroupBarrier();

    var scores = array<f32, SHARE>();
    var now = most;
    for (var j = 0u; j < SHARE; j++) {
      let k = split * SHARE + j;
      var dots = vec4<f32>();
      for (var i = 0u; i < QUADS; i++) { dots += q[i] * tile[k * QUADS + i]; }
      scores[j] = select(LOWEST, (dots.x + dots.y) + (dots.z + dots.w), key + k <= last);
      now = max(now, scores[j]);
    }
    let kept = exp(most - now);
    most = now;
    total *= kept;
    for (var i = 0u; i < QUADS; i++) { sums[i] *= kept; }
    for (var j = 0u; j < SHARE; j++) {
      let k = split * SHARE + j;
      let weight = select(0.0, exp(scores[j] - now), key + k <= last);
      total += weight;
      for (var i = 0u; i < QUADS; i++) { sums[i] += weight * tile[(KEYS + k) * QUADS + i]; }
    }
  }

  // The splits' sums come together in the lanes of split 0, one split after the other.
  for (var s = 1u; s < SPLITS; s++) {
    workgroupBarrier();
    if (split == s) {
      for (var i = 0u; i < QUADS; i++) { tile[i * QUERIES + own] = sums[i]; }
      tile[QUADS * QUERIES + own] = vec4<f32>(most, total, 0.0, 0.0);
    }
    workgroupBarrier();
    if (split == 0u) {
      let other = tile[QUADS * QUERIES + own];
      let now = max(most, other.x);
      let kept = exp(most - now);
      let added = exp(other.x - now);
      most = now;
      total = total * kept + other.y * added;
      for (var i = 0u; i < QUADS; i++) { sums[i] = sums[i] * kept + tile[i * QUERIES + own] * added; }
    }
  }
  if (split == 0u && query <= last) {
    let y_first = (picture * params.tokens + query) * params.y_stride + head * QUADS;
    for (var i = 0u; i < QUADS; i++) { y[y_first + i] = sums[i] / total; }
  }
}
