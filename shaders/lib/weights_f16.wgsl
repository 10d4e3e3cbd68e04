// Weights in f16: a unit is 16 bytes, 8 values of one row. unpack2x16float needs no feature and is exact.
struct Unit { bits: vec4<u32> }

fn load_unit(row: u32, unit: u32, units: u32) -> Unit { return Unit(load_bits(row * units + unit)); }

fn unpack_quad(unit: Unit, quad: u32) -> vec4<f32> {
  let b = select(unit.bits.xy, unit.bits.zw, quad == 1u);
  return vec4<f32>(unpack2x16float(b.x), unpack2x16float(b.y));
}
