// Sums over the lanes of a channel through workgroup memory, in the order of channel_sum_shuffle.wgsl.
// The same in all lanes of a workgroup; passed separately from Lanes, so that compilers see that branches on it are uniform.
struct Group {
  @builtin(workgroup_id) id: vec3<u32>,
}

struct Lanes {
  @builtin(local_invocation_index) index: u32,
}

// One plane per lane of a channel, padded so that 32 adjacent lanes write to 32 banks.
const PLANE: u32 = TILE * CHANNELS + (32u / LANES) % 32u;
var<workgroup> sums: array<f32, LANES * PLANE>;

fn lane_index(group: Group, lanes: Lanes) -> u32 { return lanes.index; }

// Stores a lane's part of the sum for token t of the tile.
fn keep_sum(t: u32, part: f32, index: u32) { sums[(index % LANES) * PLANE + t * CHANNELS + index / LANES] = part; }

// The sum for token t and a channel of the workgroup, after a barrier. Pairs, then pairs of pairs.
fn kept_sum(t: u32, channel: u32) -> f32 {
  var parts = array<f32, LANES>();
  for (var l = 0u; l < LANES; l++) { parts[l] = sums[l * PLANE + t * CHANNELS + channel]; }
  for (var step = 1u; step < LANES; step <<= 1u) {
    for (var l = 0u; l + step < LANES; l += 2u * step) { parts[l] += parts[l + step]; }
  }
  return parts[0];
}
