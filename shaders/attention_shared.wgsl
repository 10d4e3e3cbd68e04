// attention.wgsl for CPUs, whose drivers load lane by lane: a subgroup of 8 lanes makes TOKENS (16) rows, reads K and V from memory,
// and each lane broadcasts what it has read. Lane i has the scores of keys i, i + 8, i + 16 and i + 24, and columns i, i + 8, ...
// of y. Heads of up to 64 columns.
const KEYS: u32 = 32u;
const LANES: u32 = 8u;
const LOWEST: f32 = -3.0e38;

var<workgroup> weights: array<f32, TOKENS * KEYS>;  // [queries, keys]

// The state of the online softmax.
struct Rows {
  most: array<f32, TOKENS>,        // largest score
  total: array<f32, TOKENS>,       // sum of this lane's weights
  low: array<vec4<f32>, TOKENS>,   // sums of weights and values: this lane's columns below 32, then those from there on
  high: array<vec4<f32>, TOKENS>,
}

// Takes the scores of one query into account; its weights go to workgroup memory. Indices are constants after inlining, so that the
// rows stay in registers.
fn soften(rows: ptr<function, Rows>, t: u32, scores: vec4<f32>, valid: vec4<bool>, lane: u32) {
  let s = select(vec4<f32>(LOWEST), scores * params.scale, valid);
  let now = max((*rows).most[t], subgroupMax(max(max(s.x, s.y), max(s.z, s.w))));
  let kept = exp((*rows).most[t] - now);
  let p = select(vec4<f32>(), exp(s - now), valid);
  (*rows).most[t] = now;
  (*rows).total[t] = (*rows).total[t] * kept + ((p.x + p.y) + (p.z + p.w));
  (*rows).low[t] *= kept;
  (*rows).high[t] *= kept;
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

fn store(rows: ptr<function, Rows>, t: u32, first: u32, query: u32, lane: u32) {
  let scale = 1.0 / subgroupAdd((*rows).total[t]);
  let row = first + t * params.y_stride;
  let low = (*rows).low[t] * scale;
  store_one(row, query + t, lane, low.x);
  store_one(row, query + t, lane + 8u, low.y);
  store_one(row, query + t, lane + 16u, low.z);
  store_one(row, query + t, lane + 24u, low.w);
  let high = (*rows).high[t] * scale;
  store_one(row, query + t, lane + 32u, high.x);
  store_one(row, query + t, lane + 40u, high.y);
  store_one(row, query + t, lane + 48u, high.z);
  store_one(row, query + t, lane + 56u, high.w);
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

  var rows: Rows;
  // Below any score; the first one replaces it.
  for (var t = 0u; t < TOKENS; t++) { rows.most[t] = LOWEST; }
  for (var key = 0u; key < params.tokens; key += KEYS) {
    let keys = key + lane + vec4<u32>(0u, 8u, 16u, 24u);
    let k = first + to_keys + min(keys, vec4<u32>(last)) * params.qkv_stride;
    var scores: array<vec4<f32>, TOKENS>;
    for (var quad = 0u; quad < params.quads; quad++) {
      let of_keys = Quads(qkv[k.x + quad], qkv[k.y + quad], qkv[k.z + quad], qkv[k.w + quad]);
      multiply(&scores, of_keys, qkv[line + quad], qkv[other_line + quad]);
    }
    let valid = keys <= vec4<u32>(last);
    soften(&rows, 0u, scores[0], valid, lane);
    soften(&rows, 1u, scores[1], valid, lane);
    soften(&rows, 2u, scores[2], valid, lane);
    soften(&rows, 3u, scores[3], valid, lane);
    soften(&rows, 4u, scores[4], valid, lane);
    soften(&rows, 5u, scores[5], valid, lane);
    soften(&rows, 6u, scores[6], valid, lane);
    soften(&rows, 7u, scores[7], valid, lane);
    soften(&rows, 8u, scores[8], valid, lane);
    soften(&rows, 9u, scores[9], valid, lane);
    soften(&rows, 10u, scores[10], valid, lane);
    soften(&rows, 11u, scores[11], valid, lane);
    soften(&rows, 12u, scores[12], valid, lane);
    soften(&rows, 13u, scores[13], valid, lane);
    soften(&rows, 14u, scores[14], valid, lane);
    soften(&rows, 15u, scores[15], valid, lane);
    workgroupBarrier();
    // Past the last key the weights are zero.
    for (var four = key; four < min(key + KEYS, params.tokens); four += 4u) {
      let of_keys = min(four + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
      let v = first + 2u * to_keys + of_keys * params.qkv_stride;
      let quad = (four - key) / 4u;
      let own = weights_of(lane, quad);
      let other = weights_of(8u + lane, quad);
      multiply(&rows.low, values_of(v, lane), own, other);
      if (QUADS > 8u) { multiply(&rows.high, values_of(v, lane + 32u), own, other); }
    }
    workgroupBarrier();
  }

  let y_first = (picture * params.tokens + query) * params.y_stride + head * QUADS;
  store(&rows, 0u, y_first, query, lane);
  store(&rows, 1u, y_first, query, lane);
  store(&rows, 2u, y_first, query, lane);
  store(&rows, 3u, y_first, query, lane);
  store(&rows, 4u, y_first, query, lane);
  store(&rows, 5u, y_first, query, lane);
  store(&rows, 6u, y_first, query, lane);
  store(&rows, 7u, y_first, query, lane);
  store(&rows, 8u, y_first, query, lane);
  store(&rows, 9u, y_first, query, lane);
  store(&rows, 10u, y_first, query, lane);
  store(&rows, 11u, y_first, query, lane);
  store(&rows, 12u, y_first, query, lane);
  store(&rows, 13u, y_first, query, lane);
  store(&rows, 14u, y_first, query, lane);
  store(&rows, 15u, y_first, query, lane);
}
