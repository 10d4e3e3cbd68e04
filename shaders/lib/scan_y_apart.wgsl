// A scan whose y has a buffer of its own.
@group(0) @binding(2) var<storage, read> dt: array<f32>;             // [direction][rows, D]
@group(0) @binding(8) var<storage, read_write> y: array<f32>;        // [direction][rows, D]

fn put_y(at: u32, value: f32) { y[at] = value; }
