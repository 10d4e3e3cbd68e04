// A unit is 32 codes of 8 bits: 16 in the first plane of the row, 16 in the second, `plane` units of 16 bytes later, so that
// adjacent lanes read adjacent memory.
struct Codes { low: vec4<u32>, high: vec4<u32> }

fn load_codes(at: u32, plane: u32) -> Codes { return Codes(load_bits(at), load_bits(at + plane)); }

// Four signed codes.
fn code_quad(codes: Codes, quad: u32) -> vec4<f32> {
  let word = select(codes.low, codes.high, quad >= 4u)[quad % 4u];
  return vec4<f32>(unpack4xI8(word));
}
