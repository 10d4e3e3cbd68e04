// Sums over the lanes of a channel by shuffles; all lanes of a channel are in one subgroup.
// The same in all lanes of a workgroup; passed separately from Lanes, so that compilers see that branches on it are uniform.
struct Group {
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(subgroup_size) size: u32,
}

struct Lanes {
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
}

var<workgroup> sums: array<f32, TILE * CHANNELS>;

// Counts along the subgroups: WGSL does not say how local_invocation_index maps to subgroups.
fn lane_index(group: Group, lanes: Lanes) -> u32 { return lanes.subgroup * group.size + lanes.lane; }

// Stores a lane's part of the sum for token t of the tile. Pairs, then pairs of pairs.
fn keep_sum(t: u32, part: f32, index: u32) {
  var sum = part;
  for (var step = 1u; step < LANES; step <<= 1u) { sum += subgroupShuffleXor(sum, step); }
  if (index % LANES == 0u) { sums[t * CHANNELS + index / LANES] = sum; }
}

// The sum for token t and a channel of the workgroup, after a barrier.
fn kept_sum(t: u32, channel: u32) -> f32 { return sums[t * CHANNELS + channel]; }
