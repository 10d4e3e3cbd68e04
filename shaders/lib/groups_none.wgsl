// Rows of y are written one by one: nothing is packed.
fn keep(x_row: u32, row: u32, there: bool) {}

fn write_groups(token: u32, first: u32, lanes: Lanes) {}
