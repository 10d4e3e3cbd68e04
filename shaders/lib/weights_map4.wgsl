// Weights in nf4 or fp4: codes of 4 bits that index a map, and one f32 scale per 64. A row is the codes, then the scales.
struct Unit { codes: vec4<u32>, scale: f32 }

fn load_unit(row: u32, unit: u32, units: u32) -> Unit {
  let whole = units + units % 2u;
  let first = row * (whole + (whole + 7u) / 8u);
  return Unit(load_bits(first + unit), bitcast<f32>(load_word(first + whole + unit / 8u, unit / 2u % 4u)));
}

fn unscaled_quad(unit: Unit, quad: u32) -> vec4<f32> { return mapped(codes_of(unit.codes, quad)); }
