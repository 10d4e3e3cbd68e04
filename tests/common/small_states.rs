//! Engines with small states, and budgets for a number of them.

#![allow(dead_code, reason = "each test file uses its own part")]

use crate::common::{fixture, mamba};
use peregrine::gpu::Gpu;
use peregrine::runtime::{Checkpoint, Engine, EngineOptions, StateBudget};
use peregrine::text::Template;

/// A template that prints each message on its own line.
pub const PLAIN: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
                         {% if add_generation_prompt %}assistant: {% endif %}";

pub fn engine(gpu: &Gpu, slots: usize, template: &str) -> Engine {
    let mut checkpoint = Checkpoint::open(fixture("falcon-tiny")).unwrap();
    checkpoint.set_template(Template::new("test", template).unwrap());
    Engine::load(gpu, checkpoint, EngineOptions::default().slots(slots).chunk(32), &mut |_| {}).unwrap()
}

/// Bytes of a state: convolutions, h and logits.
pub fn state_bytes(engine: &Engine) -> u64 {
    let config = engine.checkpoint().config();
    let mamba = mamba(config);
    let of_layer = (mamba.conv_kernel - 1 + mamba.state) * mamba.inner;
    ((config.layers * of_layer + config.vocab) * size_of::<f32>()) as u64
}

/// A budget for these numbers of states on the device, on the host and on disk.
pub fn room(engine: &Engine, [device, host, disk]: [u64; 3]) -> StateBudget {
    let state = state_bytes(engine);
    StateBudget { device: device * state, host: host * state, disk: disk * state, folder: None }
}
