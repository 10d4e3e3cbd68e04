// Weights in q8_0: codes of 8 bits, and one f16 scale per 32. A row is two planes of codes, then the scales.
struct Unit { codes: Codes, scale: f32 }

fn load_unit(row: u32, unit: u32, units: u32) -> Unit {
  let first = row * (2u * units + (units + 7u) / 8u);
  let pair = unpack2x16float(load_word(first + 2u * units + unit / 8u, unit / 2u % 4u));
  return Unit(load_codes(first + unit, units), select(pair.x, pair.y, unit % 2u == 1u));
}

fn unscaled_quad(unit: Unit, quad: u32) -> vec4<f32> { return code_quad(unit.codes, quad); }
