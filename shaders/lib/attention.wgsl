// Attention of the heads of a batch of pictures.
struct Params {
  tokens: u32,      // of a picture
  heads: u32,
  qkv_stride: u32,  // vec4s from one row of qkv to the next
  y_stride: u32,    // vec4s from one row of y to the next
  quads: u32,       // vec4s of a row of a head: QUADS, but no constant, so that a CPU driver does not unroll loops over it
  scale: f32,       // 1 / sqrt(width of a head)
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>;      // [pictures * tokens, Q | K | V], each [heads, width]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;  // [pictures * tokens, heads, width]
