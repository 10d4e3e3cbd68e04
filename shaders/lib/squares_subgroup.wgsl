// Sums of the squares of up to four rows side by side, for lanes side by side: here by shuffles.
const SQUARE_ROWS: u32 = min(TEAM_ROWS, 4u);

fn sum_of_rows(square: f32, lanes: Lanes) -> f32 {
  var sum = square;
  if (SQUARE_ROWS > 1u) { sum += subgroupShuffleXor(sum, 1u); }
  if (SQUARE_ROWS > 2u) { sum += subgroupShuffleXor(sum, 2u); }
  return sum;
}
