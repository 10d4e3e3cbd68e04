// A team is the lanes that sum together: here the whole workgroup, subgroup by subgroup.
override WG: u32 = 64u;

// The same in all lanes of a workgroup; passed separately from Lanes, so that compilers see that branches on it are uniform.
struct Group {
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(subgroup_size) size: u32,
}

struct Lanes {
  @builtin(local_invocation_index) index: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
}

fn team_count(group: Group) -> u32 { return 1u; }
fn team_index(lanes: Lanes) -> u32 { return 0u; }
fn team_lane(lanes: Lanes) -> u32 { return lanes.index; }
fn team_size(group: Group) -> u32 { return WG; }

// SUBGROUP_LANES is the size of every subgroup if the driver runs only one, else 0.
fn subgroup_count(group: Group) -> u32 {
  if (SUBGROUP_LANES > 0u) { return (WG + SUBGROUP_LANES - 1u) / max(SUBGROUP_LANES, 1u); }
  return (WG + group.size - 1u) / group.size;
}

// Direct sums: over the lanes of a subgroup.
fn direct_sum_of_four(v: vec4<f32>, lanes: Lanes) -> vec4<f32> { return subgroupAdd(v); }
fn direct_sum_of_two(v: vec2<f32>, lanes: Lanes) -> vec2<f32> { return subgroupAdd(v); }
fn direct_sum_of_one(v: f32, lanes: Lanes) -> f32 { return subgroupAdd(v); }
