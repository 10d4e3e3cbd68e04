// Rows of y leave the workgroup one by one.
fn keep(column: u32, row: u32, there: bool) {}

fn leave_groups(token: u32, first: u32, lanes: Lanes) {}
