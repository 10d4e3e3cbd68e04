// Where a scan finds its operands.
struct Params {
  inner: u32,       // D
  stride: u32,      // floats from one row of dt, x or y to the next
  z_stride: u32,
  z_first: u32,     // column where z begins
  dbc_stride: u32,
  b_first: u32,     // column of dbc where B begins; C follows it
  segment: u32,     // tokens in a segment
  versions: u32,    // versions of a slot's state
}
@group(0) @binding(0) var<uniform> params: Params;
