// scores = Q K^T scale for the heads of some pictures, a tile of queries x keys per workgroup.
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>;        // [pictures * tokens, Q | K | V], each [heads, width]
@group(0) @binding(2) var<storage, read_write> scores: array<f32>;     // [slices, tokens, tokens padded to 4]

fn line_of(slice: u32, part: u32, token: u32) -> u32 {
  return qkv_first(params.first + slice, part) + min(token, params.tokens - 1u) * params.qkv_stride;
}

fn a_quad(slice: u32, query: u32, quad: u32) -> vec4<f32> { return qkv[line_of(slice, 0u, query) + quad]; }

fn b_quad(slice: u32, key: u32, quad: u32) -> vec4<f32> { return qkv[line_of(slice, 1u, key) + quad]; }

fn put(slice: u32, query: u32, key: u32, sum: f32) {
  if (query < params.tokens && key < params.tokens) {
    scores[(slice * params.tokens + query) * 4u * row_quads() + key] = sum * params.scale;
  }
}

@compute @workgroup_size(LANES)
fn attention_scores(@builtin(workgroup_id) group: vec3<u32>, lanes: Lanes) {
  let key_tiles = (params.tokens + SIDE_B - 1u) / SIDE_B;
  product(group.y / key_tiles, group.x * SIDE_A, group.y % key_tiles * SIDE_B, params.width / 4u, lanes);
}
