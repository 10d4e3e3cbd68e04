// Copies a buffer, four units of 16 bytes a lane: round trips of data, and the bandwidth of copies.
@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;        // [units]
@group(0) @binding(1) var<storage, read_write> copied: array<vec4<u32>>;  // [units]

override WG: u32 = 256u;

@compute @workgroup_size(WG)
fn copy(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  // Large buffers take a second dimension of workgroups.
  let first = (group.y * groups.x + group.x) * 4u * WG + lane;
  for (var i = 0u; i < 4u; i++) {
    let at = first + i * WG;
    if (at < arrayLength(&copied)) { copied[at] = source[at]; }
  }
}
