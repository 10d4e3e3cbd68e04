// What the lanes of a workgroup know about their team, as kernels use it: its size, their place, and how many lanes a sum has.
@group(0) @binding(0) var<storage, read_write> seen: array<u32>;  // [workgroups, WG, 4]

@compute @workgroup_size(WG)
fn teams(group: Group, lanes: Lanes) {
  let summed = team_sum(vec4<f32>(1.0, f32(team_lane(lanes)), 0.0, 0.0), lanes);
  let at = 4u * (group.id.x * WG + lanes.index);
  seen[at] = u32(summed.x);
  seen[at + 1u] = team_index(lanes);
  seen[at + 2u] = team_lane(lanes);
  seen[at + 3u] = u32(summed.y);
}
