//! Chat with a model: `cargo run --release --example chat [FOLDER]`. Without a folder it loads models/tiny-chat.

mod repl;

use peregrine::gpu::{AdapterChoice, Gpu};
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, SamplingDefaults};
use repl::{LastChatMode, Setup};

fn main() -> anyhow::Result<()> {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-chat");
    let checkpoint = Checkpoint::open(std::env::args().nth(1).as_deref().unwrap_or(shipped))?;
    let sampling = checkpoint.sampling(&SamplingDefaults::default(), 42)?;
    let options = AnswerOptions::default().max_tokens(checkpoint.defaults().max_tokens);

    let gpu = Gpu::open(&AdapterChoice::Best)?;
    eprintln!("running on {}", gpu.info());
    let engine = Engine::load(&gpu, checkpoint, EngineOptions::default(), &mut |_| {})?;
    let mut session = engine.session(sampling)?;
    repl::run(&mut session, &Setup { options, last: LastChatMode::Offer, apply_settings: &|_| Ok(()) })
}
