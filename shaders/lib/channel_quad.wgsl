// Four adjacent lanes of a subgroup per channel; all of them get the sum.
const LANES: u32 = 4u;

fn channel_sum(v: f32) -> f32 {
  let pair = v + subgroupShuffleXor(v, 1u);
  return pair + subgroupShuffleXor(pair, 2u);
}
