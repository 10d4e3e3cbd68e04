// One entry of the row table: which slot a row belongs to, the token it reads, and where its state stands.
struct Row {
  slot: u32,
  id: u32,        // the token this row feeds next
  position: u32,  // tokens the slot has consumed
  version: u32,   // steps the slot has taken; its state lies in version % VERSIONS
}
