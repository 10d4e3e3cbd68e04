// A channel has four lanes side by side in a subgroup, which all get the sum.
const LANES: u32 = 4u;

fn channel_sum(v: f32) -> f32 {
  let pair = v + subgroupShuffleXor(v, 1u);
  return pair + subgroupShuffleXor(pair, 2u);
}
