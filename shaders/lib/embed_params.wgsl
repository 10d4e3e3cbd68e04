// The shard of the table and the ids to look up.
struct Params {
  units: u32,     // units in a row of E
  x_stride: u32,  // floats from one row of x to the next
  dim: u32,       // hidden size
  first: u32,     // first id of this shard
  rows: u32,      // ids in this shard
  order_shift: u32,  // order of the first product's input, see `placed`
  order_units: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<RowEntry>;           // [rows]
