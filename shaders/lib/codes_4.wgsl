// A unit is 32 codes of 4 bits: byte i has code i in its low half and code i + 16 in its high half.

// The codes of a quad, one per byte.
fn code_bytes(bits: vec4<u32>, quad: u32) -> u32 { return (bits[quad % 4u] >> (4u * (quad / 4u))) & 0x0f0f0f0fu; }

fn codes_of(bits: vec4<u32>, quad: u32) -> vec4<u32> { return unpack4xU8(code_bytes(bits, quad)); }
