// A unit of weights is eight vec4s. Every index is a constant: codes and values stay in registers.
const QUADS: u32 = 8u;
// Quads of it that a lane of a tile unpacks: other lanes load the same unit for the others.
const PART_QUADS: u32 = 1u;

fn unpack_unit(unit: Unit) -> array<vec4<f32>, QUADS> {
  return array<vec4<f32>, QUADS>(
    unpack_quad(unit, 0u), unpack_quad(unit, 1u), unpack_quad(unit, 2u), unpack_quad(unit, 3u),
    unpack_quad(unit, 4u), unpack_quad(unit, 5u), unpack_quad(unit, 6u), unpack_quad(unit, 7u),
  );
}
