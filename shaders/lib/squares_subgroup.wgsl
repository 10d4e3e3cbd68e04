// Sums of the squares of SQUARE_ROWS rows side by side, at most four, for lanes side by side: here by shuffles.

fn sum_of_rows(square: f32, lanes: Lanes) -> f32 {
  var sum = square;
  if (SQUARE_ROWS > 1u) { sum += subgroupShuffleXor(sum, 1u); }
  if (SQUARE_ROWS > 2u) { sum += subgroupShuffleXor(sum, 2u); }
  return sum;
}
