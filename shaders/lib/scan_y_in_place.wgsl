// A scan that writes y over dt: each value of dt is read by one lane, or one workgroup, before it is replaced.
@group(0) @binding(2) var<storage, read_write> dt: array<f32>;       // [direction][rows, D]

fn put_y(at: u32, value: f32) { dt[at] = value; }
