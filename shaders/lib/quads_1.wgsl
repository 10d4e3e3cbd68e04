// A unit of weights is one vec4.
const QUADS: u32 = 1u;
// Quads of it that a lane of a tile unpacks: all.
const PART_QUADS: u32 = 1u;

fn unpack_unit(unit: Unit) -> array<vec4<f32>, QUADS> { return array<vec4<f32>, QUADS>(unpack_quad(unit, 0u)); }

fn dot_unit(unit: Unit, v: array<vec4<f32>, QUADS>) -> f32 { return dot(unpack_quad(unit, 0u), v[0]); }
