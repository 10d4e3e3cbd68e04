// Weights that unpack without a table.
fn prepare_weights(lane: u32, lanes: u32) {}
