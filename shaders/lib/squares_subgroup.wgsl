// Sums of the squares of SQUARE_ROWS adjacent rows, at most four, over adjacent lanes, by shuffles.

fn sum_of_rows(square: f32, lanes: Lanes) -> f32 {
  var sum = square;
  if (SQUARE_ROWS > 1u) { sum += subgroupShuffleXor(sum, 1u); }
  if (SQUARE_ROWS > 2u) { sum += subgroupShuffleXor(sum, 2u); }
  return sum;
}
