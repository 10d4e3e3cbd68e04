// Teams of lanes that sum together: here the whole workgroup is one team, subgroup by subgroup.
override WG: u32 = 64u;

struct Lanes {
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) index: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(subgroup_size) size: u32,
}

fn team_count(lanes: Lanes) -> u32 { return 1u; }
fn team_index(lanes: Lanes) -> u32 { return 0u; }
fn team_lane(lanes: Lanes) -> u32 { return lanes.index; }
fn team_size(lanes: Lanes) -> u32 { return WG; }

// Where the driver gives subgroups of one size alone, that is a constant, SUBGROUP_LANES; else that is 0.
fn subgroup_count(lanes: Lanes) -> u32 {
  if (SUBGROUP_LANES > 0u) { return (WG + SUBGROUP_LANES - 1u) / max(SUBGROUP_LANES, 1u); }
  return (WG + lanes.size - 1u) / lanes.size;
}

// Sums over the lanes that add up directly: those of a subgroup.
fn direct_sum_of_four(v: vec4<f32>, lanes: Lanes) -> vec4<f32> { return subgroupAdd(v); }
fn direct_sum_of_two(v: vec2<f32>, lanes: Lanes) -> vec2<f32> { return subgroupAdd(v); }
fn direct_sum_of_one(v: f32, lanes: Lanes) -> f32 { return subgroupAdd(v); }
