// Made-up weights: whole numbers from -128 to 127 times a power of two. Every format holds them exactly, so that one seed
// makes one model, whatever its format.
struct Params {
  words: u32,     // in a row of W
  columns: u32,   // values in a row of W; the words past them are zero
  first: u32,     // row of the matrix that this shard begins with
  rows: u32,      // of this shard
  seed: u32,
  scale: f32,     // a power of two
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> weight: array<u32>;   // [rows, words]

override WG: u32 = 64u;

// A step of PCG-RXS-M-XS-32 (O'Neill, 2014) as a hash.
fn hash(v: u32) -> u32 {
  let state = v * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}

fn value(row: u32, column: u32) -> f32 {
  if (column >= params.columns) { return 0.0; }
  let bits = hash((params.first + row) * params.columns + column + hash(params.seed));
  return (f32(bits >> 24u) - 128.0) * params.scale;
}

@compute @workgroup_size(WG)
fn fill(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  for (var at = group.x * WG + lane; at < params.rows * params.words; at += groups.x * WG) {
    let row = at / params.words;
    let column = at % params.words * WORD_VALUES;
    weight[at] = pack(vec2<f32>(value(row, column), value(row, column + 1u)));
  }
}
