// Weights in q4_0: codes of 4 bits, and one f16 scale per 32. A row is the codes, then the scales.
struct Unit { codes: vec4<u32>, scale: f32 }

fn load_unit(row: u32, unit: u32, units: u32) -> Unit {
  let first = row * (units + (units + 7u) / 8u);
  let pair = unpack2x16float(load_word(first + units + unit / 8u, unit / 2u % 4u));
  return Unit(load_bits(first + unit), select(pair.x, pair.y, unit % 2u == 1u));
}

fn unscaled_quad(unit: Unit, quad: u32) -> vec4<f32> { return vec4<f32>(codes_of(unit.codes, quad)) - 8.0; }
