// One lane per channel.
const LANES: u32 = 1u;

fn channel_sum(v: f32) -> f32 { return v; }
