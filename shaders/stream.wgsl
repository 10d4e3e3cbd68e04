// Reads a buffer once, as fast as it can be read: every lane takes 16 bytes at a time side by side with the next lane, and
// the exclusive or of all is kept so that nothing is left out.
@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;   // [workgroups, UNITS, WG]
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;     // [workgroups, WG]

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn stream(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let first = group.x * UNITS * WG + lane;
  var bits = vec4<u32>();
  for (var i = 0u; i < UNITS; i++) { bits ^= source[first + i * WG]; }
  sums[group.x * WG + lane] = bits.x ^ bits.y ^ bits.z ^ bits.w;
}
