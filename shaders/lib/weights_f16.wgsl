// Weights in f16: a unit of 16 bytes is 8 values of one row. unpack2x16float needs no feature and is exact.
const QUADS: u32 = 2u;  // vec4s in a unit

struct Unit { bits: vec4<u32> }

fn load_unit(row: u32, unit: u32, units: u32) -> Unit { return Unit(load_bits(row * units + unit)); }

fn unpack_unit(unit: Unit) -> array<vec4<f32>, QUADS> {
  let b = unit.bits;
  return array<vec4<f32>, QUADS>(
    vec4<f32>(unpack2x16float(b.x), unpack2x16float(b.y)),
    vec4<f32>(unpack2x16float(b.z), unpack2x16float(b.w)),
  );
}
