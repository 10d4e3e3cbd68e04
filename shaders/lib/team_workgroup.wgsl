// Teams of lanes that sum together: here the whole workgroup is one team, subgroup by subgroup.
override WG: u32 = 64u;

struct Lanes {
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) index: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(subgroup_size) size: u32,
}

var<workgroup> partial_sums: array<vec4<f32>, WG>;  // one a subgroup

fn team_count(lanes: Lanes) -> u32 { return 1u; }
fn team_index(lanes: Lanes) -> u32 { return 0u; }
fn team_lane(lanes: Lanes) -> u32 { return lanes.index; }
fn team_size(lanes: Lanes) -> u32 { return WG; }

// Every lane of the team gets the sums; all must call it.
fn team_sum(v: vec4<f32>, lanes: Lanes) -> vec4<f32> {
  let mine = subgroupAdd(v);
  if (lanes.lane == 0u) { partial_sums[lanes.subgroup] = mine; }
  workgroupBarrier();
  var total = vec4<f32>();
  for (var i = 0u; i < (WG + lanes.size - 1u) / lanes.size; i++) { total += partial_sums[i]; }
  workgroupBarrier();
  return total;
}
