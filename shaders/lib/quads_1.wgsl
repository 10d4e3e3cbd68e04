// A unit of weights is one vec4.
const QUADS: u32 = 1u;
// Quads of it that a lane of a tile unpacks: all of them.
const PART_QUADS: u32 = 1u;

fn unpack_unit(unit: Unit) -> array<vec4<f32>, QUADS> { return array<vec4<f32>, QUADS>(unpack_quad(unit, 0u)); }
