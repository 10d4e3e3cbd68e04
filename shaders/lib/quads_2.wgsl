// A unit of weights is two vec4s.
const QUADS: u32 = 2u;
// Quads of it that a lane of a tile unpacks: all of them.
const PART_QUADS: u32 = 2u;

fn unpack_unit(unit: Unit) -> array<vec4<f32>, QUADS> {
  return array<vec4<f32>, QUADS>(unpack_quad(unit, 0u), unpack_quad(unit, 1u));
}
