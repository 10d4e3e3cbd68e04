// Weights in f32: a unit is 16 bytes, 4 values of one row.
struct Unit { bits: vec4<u32> }

fn load_unit(row: u32, unit: u32, units: u32) -> Unit { return Unit(load_bits(row * units + unit)); }

fn unpack_quad(unit: Unit, quad: u32) -> vec4<f32> { return bitcast<vec4<f32>>(unit.bits); }
