// Attention that stores the scores: heads of pictures, one slice after the other.
struct Params {
  tokens: u32,      // of a picture
  heads: u32,
  first: u32,       // slice (picture, head) of the first in scores and weights
  width: u32,       // of a head, a multiple of 4
  qkv_stride: u32,  // vec4s from one row of qkv to the next
  y_stride: u32,    // floats from one row of y to the next
  scale: f32,       // 1 / sqrt(width)
}
@group(0) @binding(0) var<uniform> params: Params;

// vec4s of a row of scores or weights.
fn row_quads() -> u32 { return (params.tokens + 3u) / 4u; }

// Index in qkv of a head's first row: of Q, or of K or V with `part` 1 or 2.
fn qkv_first(slice: u32, part: u32) -> u32 {
  let picture = slice / params.heads;
  return picture * params.tokens * params.qkv_stride + (part * params.heads + slice % params.heads) * (params.width / 4u);
}
