// Products of TOKENS (16) lines, of which lane i of a subgroup of 8 holds i and i + 8, with four lines of each lane.

// Four values of k of a lane's four lines.
struct Quads { a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32> }

fn dots(w: Quads, v: vec4<f32>) -> vec4<f32> { return vec4<f32>(dot(w.a, v), dot(w.b, v), dot(w.c, v), dot(w.d, v)); }

// Every index is a constant: the sums stay in registers, and WGSL requires a constant lane for a broadcast.
fn multiply(sums: ptr<function, array<vec4<f32>, TOKENS>>, w: Quads, v: vec4<f32>, more: vec4<f32>) {
  (*sums)[0] += dots(w, subgroupBroadcast(v, 0u));
  (*sums)[1] += dots(w, subgroupBroadcast(v, 1u));
  (*sums)[2] += dots(w, subgroupBroadcast(v, 2u));
  (*sums)[3] += dots(w, subgroupBroadcast(v, 3u));
  (*sums)[4] += dots(w, subgroupBroadcast(v, 4u));
  (*sums)[5] += dots(w, subgroupBroadcast(v, 5u));
  (*sums)[6] += dots(w, subgroupBroadcast(v, 6u));
  (*sums)[7] += dots(w, subgroupBroadcast(v, 7u));
  (*sums)[8] += dots(w, subgroupBroadcast(more, 0u));
  (*sums)[9] += dots(w, subgroupBroadcast(more, 1u));
  (*sums)[10] += dots(w, subgroupBroadcast(more, 2u));
  (*sums)[11] += dots(w, subgroupBroadcast(more, 3u));
  (*sums)[12] += dots(w, subgroupBroadcast(more, 4u));
  (*sums)[13] += dots(w, subgroupBroadcast(more, 5u));
  (*sums)[14] += dots(w, subgroupBroadcast(more, 6u));
  (*sums)[15] += dots(w, subgroupBroadcast(more, 7u));
}
