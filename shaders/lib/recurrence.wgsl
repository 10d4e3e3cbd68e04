// The selective scan's step for one state of one channel (Mamba, eq. 2a with ZOH for A and Euler for B):
// h = exp(dt A) h + dt B x.
fn recur(h: f32, dt: f32, a: f32, dt_x: f32, b: f32) -> f32 { return exp(dt * a) * h + dt_x * b; }
