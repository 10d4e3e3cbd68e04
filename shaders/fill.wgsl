// Synthetic weights, word by word. A seed gives the same matrix in f32, f16 and bf16, and another one in each format with scales.
struct Params {
  words: u32,           // in a row of W
  columns: u32,         // values in a row of W
  first: u32,           // row of the matrix that this shard begins with
  rows: u32,            // of this shard
  seed: u32,
  scale: f32,           // a power of two
  codes: u32,           // formats with scales: words of codes in a row
  scales: u32,          // words up to the end of the scales; scales of scales follow
  pattern: vec4<u32>,   // the words of the scales, repeated
  tops: vec4<u32>,      // the words of the scales of scales
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

@compute @workgroup_size(WG)
fn fill(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  for (var at = group.x * WG + lane; at < params.rows * params.words; at += groups.x * WG) {
    weight[at] = made_up(params.first + at / params.words, at % params.words);
  }
}
