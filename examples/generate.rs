//! The least that generates text: `cargo run --release --example generate [FOLDER]`.

use peregrine::gpu::{AdapterChoice, Gpu};
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Sampling};
use std::io::Write;

fn main() -> anyhow::Result<()> {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-chat");
    let checkpoint = Checkpoint::open(std::env::args().nth(1).as_deref().unwrap_or(shipped))?;
    let gpu = Gpu::open(&AdapterChoice::Best)?;
    let engine = Engine::load(&gpu, checkpoint, EngineOptions::default(), &mut |_| {})?;

    let mut session = engine.session(Sampling::GREEDY)?;
    for piece in session.send("Tell me a story about a fox.", &AnswerOptions::tokens(200))? {
        print!("{}", piece?);
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
