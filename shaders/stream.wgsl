// Reads a buffer once, as fast as possible: each lane issues all of its 16-byte loads at once, adjacent to those of the next
// lane, and writes only if the XOR of all it read is RARE. So no load can be optimized away, and almost nothing is written.
@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;   // [workgroups, 8, WG]
@group(0) @binding(1) var<storage, read_write> found: array<u32>;    // [workgroups, WG]

override WG: u32 = 256u;

@compute @workgroup_size(WG)
fn stream(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  // Written out instead of a loop, so that no driver waits for one load before the next.
  let at = group.x * 8u * WG + lane;
  let a = source[at];
  let b = source[at + WG];
  let c = source[at + 2u * WG];
  let d = source[at + 3u * WG];
  let e = source[at + 4u * WG];
  let f = source[at + 5u * WG];
  let g = source[at + 6u * WG];
  let h = source[at + 7u * WG];
  let bits = ((a ^ b) ^ (c ^ d)) ^ ((e ^ f) ^ (g ^ h));
  if ((bits.x ^ bits.y ^ bits.z ^ bits.w) == RARE) { found[group.x * WG + lane] = bits.x; }
}
