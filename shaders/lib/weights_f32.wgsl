// Weights in f32: a unit of 16 bytes is 4 values of one row.
const QUADS: u32 = 1u;  // vec4s in a unit

struct Unit { bits: vec4<u32> }

fn load_unit(row: u32, unit: u32, units: u32) -> Unit { return Unit(load_bits(row * units + unit)); }

fn unpack_unit(unit: Unit) -> array<vec4<f32>, QUADS> {
  return array<vec4<f32>, QUADS>(bitcast<vec4<f32>>(unit.bits));
}
