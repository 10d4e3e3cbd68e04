// The exponent of each token's largest value, with f32's bias, by which cooperative matrices scale x. One workgroup per token.
struct Params {
  quads: u32,   // vec4s in a token
  stride: u32,  // vec4s from one token to the next
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;        // [tokens, k], padded with zeros to whole quads
@group(0) @binding(3) var<storage, read_write> tops: array<u32>;     // [tokens]

var<workgroup> top: atomic<u32>;

@compute @workgroup_size(WG)
fn tops_of_tokens(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let token = group.x;
  if (token >= batch.rows) { return; }
  if (lane == 0u) { atomicStore(&top, 0u); }
  workgroupBarrier();
  var own = 0u;
  for (var quad = lane; quad < params.quads; quad += WG) { own = max(own, exponent(x[token * params.stride + quad])); }
  atomicMax(&top, own);
  workgroupBarrier();
  if (lane == 0u) { tops[token] = atomicLoad(&top); }
}
