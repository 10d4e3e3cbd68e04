// One entry of the row table: the slot of a row, the token it reads and the version of its state.
struct RowEntry {
  slot: u32,
  id: u32,        // the token that this row reads next
  position: u32,  // tokens the slot has consumed
  version: u32,   // steps the slot has taken; its state is version % VERSIONS
}
