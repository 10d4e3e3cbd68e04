// A team is the lanes that sum together: here a subgroup, of any size that the driver runs. SUBGROUP_LANES is that size if it is
// the only one, else 0.
override WG: u32 = 64u;

// The same in all lanes of a workgroup; passed separately from Lanes, so that compilers see that branches on it are uniform.
struct Group {
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(subgroup_size) size: u32,
  @builtin(num_subgroups) subgroups: u32,
}

struct Lanes {
  @builtin(local_invocation_index) index: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
}

var<workgroup> partial_sums: array<f32, WG>;  // one per subgroup

// Some drivers round num_subgroups down: take at least enough to fill the workgroup.
fn team_count(group: Group) -> u32 {
  if (SUBGROUP_LANES > 0u) { return (WG + SUBGROUP_LANES - 1u) / max(SUBGROUP_LANES, 1u); }
  return max(group.subgroups, (WG + group.size - 1u) / group.size);
}
fn team_index(lanes: Lanes) -> u32 { return lanes.subgroup; }
fn team_lane(lanes: Lanes) -> u32 { return lanes.lane; }
fn team_size(group: Group) -> u32 {
  if (SUBGROUP_LANES > 0u) { return min(SUBGROUP_LANES, WG); }  // a workgroup may be smaller than a subgroup
  return min(group.size, WG);
}

// Every lane of the team gets the sums.
fn team_sum(v: vec4<f32>, lanes: Lanes) -> vec4<f32> { return subgroupAdd(v); }

// Direct sums: over the lanes of a subgroup.
fn direct_sum_of_four(v: vec4<f32>, lanes: Lanes) -> vec4<f32> { return subgroupAdd(v); }
fn direct_sum_of_two(v: vec2<f32>, lanes: Lanes) -> vec2<f32> { return subgroupAdd(v); }
fn direct_sum_of_one(v: f32, lanes: Lanes) -> f32 { return subgroupAdd(v); }

fn subgroup_count(group: Group) -> u32 { return team_count(group); }

// Every lane of the workgroup calls it and gets the sum.
fn workgroup_sum(v: f32, group: Group, lanes: Lanes) -> f32 {
  let mine = subgroupAdd(v);
  if (lanes.lane == 0u) { partial_sums[lanes.subgroup] = mine; }
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < team_count(group); i++) { total += partial_sums[i]; }
  workgroupBarrier();
  return total;
}
