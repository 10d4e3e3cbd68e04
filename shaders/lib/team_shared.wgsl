// A team is the lanes that sum together. Without subgroup operations it is the whole workgroup.
override WG: u32 = 64u;

// The same in all lanes of a workgroup; passed separately from Lanes, so that compilers see that branches on it are uniform.
struct Group {
  @builtin(workgroup_id) id: vec3<u32>,
}

struct Lanes {
  @builtin(local_invocation_index) index: u32,
}

var<workgroup> partial_sums: array<vec4<f32>, WG>;

fn team_count(group: Group) -> u32 { return 1u; }
fn team_index(lanes: Lanes) -> u32 { return 0u; }
fn team_lane(lanes: Lanes) -> u32 { return lanes.index; }
fn team_size(group: Group) -> u32 { return WG; }

// Every lane of the team calls it and gets the sums. WG is a power of two.
fn team_sum(v: vec4<f32>, lanes: Lanes) -> vec4<f32> {
  partial_sums[lanes.index] = v;
  workgroupBarrier();
  for (var half = WG / 2u; half > 0u; half >>= 1u) {
    if (lanes.index < half) { partial_sums[lanes.index] += partial_sums[lanes.index + half]; }
    workgroupBarrier();
  }
  let total = partial_sums[0];
  workgroupBarrier();
  return total;
}

// Direct sums: over the whole team.
fn direct_sum_of_four(v: vec4<f32>, lanes: Lanes) -> vec4<f32> { return team_sum(v, lanes); }
fn direct_sum_of_two(v: vec2<f32>, lanes: Lanes) -> vec2<f32> { return team_sum(vec4<f32>(v, 0.0, 0.0), lanes).xy; }
fn direct_sum_of_one(v: f32, lanes: Lanes) -> f32 { return team_sum(vec4<f32>(v, 0.0, 0.0, 0.0), lanes).x; }

fn workgroup_sum(v: f32, group: Group, lanes: Lanes) -> f32 { return team_sum(vec4<f32>(v, 0.0, 0.0, 0.0), lanes).x; }
