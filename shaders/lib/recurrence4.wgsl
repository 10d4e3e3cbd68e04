// lib/recurrence.wgsl for four states of one channel at a time.
alias States = vec4<f32>;
const WIDTH: u32 = 4u;  // states in a States

fn recur(h: States, dt: f32, a: States, dt_x: f32, b: States) -> States { return exp2(dt * a) * h + dt_x * b; }

fn total(v: States) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn states_of(v: array<f32, WIDTH>) -> States { return vec4<f32>(v[0], v[1], v[2], v[3]); }
fn values_of(v: States) -> array<f32, WIDTH> { return array<f32, WIDTH>(v.x, v.y, v.z, v.w); }
