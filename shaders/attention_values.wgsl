// y = weights V for the heads of some pictures, a tile of queries x columns of a head per workgroup.
@group(0) @binding(1) var<storage, read> weights: array<vec4<f32>>;    // [slices, tokens, tokens padded to 4 with zeros]
@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>;        // [pictures * tokens, Q | K | V], each [heads, width]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;          // [pictures * tokens, heads, width]

fn a_quad(slice: u32, query: u32, quad: u32) -> vec4<f32> {
  return weights[(slice * params.tokens + min(query, params.tokens - 1u)) * row_quads() + quad];
}

fn value(slice: u32, token: u32, column: u32) -> f32 {
  let line = qkv_first(params.first + slice, 2u) + min(token, params.tokens - 1u) * params.qkv_stride;
  return qkv[line + column / 4u][column % 4u];
}

// A line of V^T is a column of V.
fn b_quad(slice: u32, column: u32, quad: u32) -> vec4<f32> {
  let own = min(column, params.width - 1u);
  return vec4<f32>(
    value(slice, 4u * quad, own),
    value(slice, 4u * quad + 1u, own),
    value(slice, 4u * quad + 2u, own),
    value(slice, 4u * quad + 3u, own),
  );
}

fn put(slice: u32, query: u32, column: u32, sum: f32) {
  if (query < params.tokens && column < params.width) {
    let whole = params.first + slice;
    let token = whole / params.heads * params.tokens + query;
    y[token * params.y_stride + whole % params.heads * params.width + column] = sum;
  }
}

@compute @workgroup_size(LANES)
fn attention_values(@builtin(workgroup_id) group: vec3<u32>, lanes: Lanes) {
  let column_tiles = (params.width + SIDE_B - 1u) / SIDE_B;
  product(group.y / column_tiles, group.x * SIDE_A, group.y % column_tiles * SIDE_B, row_quads(), lanes);
}
