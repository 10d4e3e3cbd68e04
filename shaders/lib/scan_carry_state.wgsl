@group(0) @binding(5) var<storage, read> state: array<f32>;          // [slot][version][N][D]
