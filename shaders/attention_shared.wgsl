// attention.wgsl for CPUs, whose drivers load lane by lane: a subgroup of 8 lanes makes TOKENS (16) rows, reads K and V from memory,
// and each lane broadcasts what it has read. Lane i has the scores of keys i, i + 8, i + 16 and i + 24, and columns i, i + 8, ...
// of y. Heads of up to 64 columns.
const KEYS: u32 = 32u;
const LANES: u32 = 8u;
const LOWEST: f32 = -3.0e38;

var<workgroup> weights: array<f32, TOKENS * KEYS>;  // [queries, keys]

// Takes the scores of query t into account: the largest, the sum of this lane's weights, and the sums of weights times values, of
// this lane's columns below 32 and of those from there on. Its weights go to workgroup memory. Indices are constants after inlining, so that the
// rows stay in registers.
fn soften(
  most: ptr<function, array<f32, TOKENS>>,
  total: ptr<function, array<f32, TOKENS>>,
  low: ptr<function, array<vec4<f32>, TOKENS>>,
  high: ptr<function, array<vec4<f32>, TOKENS>>,
  t: u32,
  scores: vec4<f32>,
  valid: vec4<bool>,
  lane: u32,
) {
  let s = select(vec4<f32>(LOWEST), scores * params.scale, valid);
  let now = max((*most)[t], subgroupMax(max(max(s.x, s.y), max(s.z, s.w))));
  let kept = exp((*most)[t] - now);
  let p = select(vec4<f32>(), exp(s - now), valid);
  (*most)[t] = now;
  (*total)[t] = (*total)[t] * kept + ((p.x + p.y) + (p.z + p.w));
  (*low)[t] *= kept;
  (*high)[t] *= kept;
  weights[t * KEYS + lane] = p.x;
  weights[t * KEYS + 8u + lane] = p.y;
  weights[t * KEYS + 16u + lane] = p.z;
  weights[t * KEYS + 24u + lane] = p.w;
}

fn weights_of(query: u32, quad: u32) -> vec4<f32> {
  let at = query * KEYS + 4u * quad;
  return vec4<f32>(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]);
}

// A column of V for four keys, whose rows begin at `rows`.
fn values(rows: vec4<u32>, column: u32) -> vec4<f32> {
  let own = min(column, 4u * QUADS - 1u);
  let at = rows + own / 4u;
  let part = own % 4u;
  return vec4<f32>(qkv[at.x][part], qkv[at.y][part], qkv[at.z][part], qkv[at.w][part]);
}

fn values_of(rows: vec4<u32>, column: u32) -> Quads {
  return Quads(
    values(rows, column),
    values(rows, column + 8u),
    values(rows, column + 16u),
    values(rows, column + 24u),
  );
}

fn store_one(row: u32, query: u32, column: u32, v: f32) {
  if (query < params.tokens && column < 4u * QUADS) { y[row + column / 4u][column % 4u] = v; }
}

fn store(total: f32, low_sums: vec4<f32>, high_sums: vec4<f32>, row: u32, query: u32, lane: u32) {
  let scale = 1.0 / subgroupAdd(total);
  let low = low_sums * scale;
  store_one(row, query, lane, low.x);
  store_one(row, query, lane + 8u, low.y);
  store_one(row, query, lane + 16u, low.z);
  store_one(row, query, lane + 24u, low.w);
  let high = high_sums * scale;
  store_one(row, query, lane + 32u, high.x);
  store_one(row, query, lane + 40u, high.y);
  store_one(row, query, lane + 48u, high.z);
  store_one(row, query, lane + 56u, high.w);
}

@compute @workgroup_size(LANES)
fn attention(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
  let picture = group.y / params.heads;
  let head = group.y % params.heads;
  let first = picture * params.tokens * params.qkv_stride + head * QUADS;
  let to_keys = params.heads * QUADS;
  let last = params.tokens - 1u;
  let query = group.x * TOKENS;
  let line = first + min(query + lane, last) * params.qkv_stride;
  let other_line = first + min(query + 8u + lane, last) * params.qkv_stride;

  var most = array<f32, TOKENS>();  // largest scores so far
  var total = array<f32, TOKENS>(); // sums of this lane's weights
  var low = array<vec4<f32>, TOKENS>();
  var high = array<vec4<f32>, TOKENS>();
  for (var t = 0u; t < TOKENS; t++) { most[t] = LOWEST; }
  for (var key = 0u; key < params.tokens; key += KEYS) {
    let keys = key + lane + vec4<u32>(0u, 8u, 16u, 24u);
    let k = first + to_keys + min(keys, vec4<u32>(last)) * params.qkv_stride;
    var scores = array<vec4<f32>, TOKENS>();
    for (var quad = 0u; quad < params.quads; quad++) {
      let of_keys = Quads(qkv[k.x + quad], qkv[k.y + quad], qkv[k.z + quad], qkv[k.w + quad]);
      multiply(&scores, of_keys, qkv[line + quad], qkv[other_line + quad]);
    }
    let valid = keys <= vec4<u32>(last);
    soften(&most, &total, &low, &high, 0u, scores[0], valid, lane);
    soften(&most, &total, &low, &high, 1u, scores[1], valid, lane);
    soften(&most, &total, &low, &high, 2u, scores[2], valid, lane);
    soften(&most, &total, &low, &high, 3u, scores[3], valid, lane);
    soften(&most, &total, &low, &high, 4u, scores[4], valid, lane);
    soften(&most, &total, &low, &high, 5u, scores[5], valid, lane);
    soften(&most, &total, &low, &high, 6u, scores[6], valid, lane);
    soften(&most, &total, &low, &high, 7u, scores[7], valid, lane);
    soften(&most, &total, &low, &high, 8u, scores[8], valid, lane);
    soften(&most, &total, &low, &high, 9u, scores[9], valid, lane);
    soften(&most, &total, &low, &high, 10u, scores[10], valid, lane);
    soften(&most, &total, &low, &high, 11u, scores[11], valid, lane);
    soften(&most, &total, &low, &high, 12u, scores[12], valid, lane);
    soften(&most, &total, &low, &high, 13u, scores[13], valid, lane);
    soften(&most, &total, &low, &high, 14u, scores[14], valid, lane);
    soften(&most, &total, &low, &high, 15u, scores[15], valid, lane);
    workgroupBarrier();
    // Past the last key the weights are zero.
    for (var four = key; four < min(key + KEYS, params.tokens); four += 4u) {
      let of_keys = min(four + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
      let v = first + 2u * to_keys + of_keys * params.qkv_stride;
      let quad = (four - key) / 4u;
      let own = weights_of(lane, quad);
      let other = weights_of(8u + lane, quad);
      multiply(&low, values_of(v, lane), own, other);
      if (QUADS > 8u) { multiply(&high, values_of(v, lane + 32u), own, other); }
    }
    workgroupBarrier();
  }

  let y_first = (picture * params.tokens + query) * params.y_stride + head * QUADS;
  store(total[0], low[0], high[0], y_first + 0u * params.y_stride, query + 0u, lane);
  store(total[1], low[1], high[1], y_first + 1u * params.y_stride, query + 1u, lane);
  store(total[2], low[2], high[2], y_first + 2u * params.y_stride, query + 2u, lane);
  store(total[3], low[3], high[3], y_first + 3u * params.y_stride, query + 3u, lane);
  store(total[4], low[4], high[4], y_first + 4u * params.y_stride, query + 4u, lane);
  store(total[5], low[5], high[5], y_first + 5u * params.y_stride, query + 5u, lane);
  store(total[6], low[6], high[6], y_first + 6u * params.y_stride, query + 6u, lane);
  store(total[7], low[7], high[7], y_first + 7u * params.y_stride, query + 7u, lane);
  store(total[8], low[8], high[8], y_first + 8u * params.y_stride, query + 8u, lane);
  store(total[9], low[9], high[9], y_first + 9u * params.y_stride, query + 9u, lane);
  store(total[10], low[10], high[10], y_first + 10u * params.y_stride, query + 10u, lane);
  store(total[11], low[11], high[11], y_first + 11u * params.y_stride, query + 11u, lane);
  store(total[12], low[12], high[12], y_first + 12u * params.y_stride, query + 12u, lane);
  store(total[13], low[13], high[13], y_first + 13u * params.y_stride, query + 13u, lane);
  store(total[14], low[14], high[14], y_first + 14u * params.y_stride, query + 14u, lane);
  store(total[15], low[15], high[15], y_first + 15u * params.y_stride, query + 15u, lane);
}
