// Weights in int8: codes of 8 bits, and one f32 scale per 64. A row is two planes of codes, then the scales.
struct Unit { codes: Codes, scale: f32 }

fn load_unit(row: u32, unit: u32, units: u32) -> Unit {
  let whole = units + units % 2u;
  let first = row * (2u * whole + (whole + 7u) / 8u);
  let scale = bitcast<f32>(load_word(first + 2u * whole + unit / 8u, unit / 2u % 4u));
  return Unit(load_codes(first + unit, whole), scale);
}

fn unscaled_quad(unit: Unit, quad: u32) -> vec4<f32> { return code_quad(unit.codes, quad); }
