// Packs the next product's input as int8. 32 adjacent values are a group, which is complete before any of it is written. A row of U
// groups holds the codes in two planes, four words for 16 codes of each group, then a pair of words per group: its scale and the
// sum of its codes, both f32.
var<workgroup> kept: array<f32, KEPT>;  // values of whole groups

// Writes a quad of the group at `start` in `kept`: group `unit` of `units` in a row that begins at word `line`. The lane of quad 0
// also writes scale and sum.
fn pack_quad(start: u32, quad: u32, line: u32, unit: u32, units: u32) {
  var top = 0u;  // largest magnitude, as bits: NaN and infinity compare above all others
  for (var i = 0u; i < 32u; i++) { top = max(top, bitcast<u32>(kept[start + i]) & 0x7fffffffu); }
  // A group that is not finite gets the scale NaN, and so makes every sum NaN that it is part of.
  let finite = top < 0x7f800000u;
  let there = finite && top >= 0x0d800000u;  // at least 2^-100, else the group is zero
  let up = select(0.0, 127.0 / bitcast<f32>(top), there);
  put_word(line + 4u * (quad / 4u * units + unit) + quad % 4u, packed_codes(start + 4u * quad, up, there));
  if (quad > 0u) { return; }
  var sum = 0;
  for (var q = 0u; q < 8u; q++) { sum += dot4I8Packed(packed_codes(start + 4u * q, up, there), 0x01010101u); }
  let scale = select(0u, bitcast<u32>(bitcast<f32>(top) / 127.0), there);
  put_word(line + 8u * units + 2u * unit, select(0x7fc00000u, scale, finite));
  put_word(line + 8u * units + 2u * unit + 1u, bitcast<u32>(f32(sum)));
}

fn packed_codes(at: u32, up: f32, there: bool) -> u32 {
  let v = vec4<f32>(kept[at], kept[at + 1u], kept[at + 2u], kept[at + 3u]);
  return pack4xI8(vec4<i32>(round(select(vec4<f32>(), v, vec4<bool>(there)) * up)));
}
