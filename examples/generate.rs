// Generates text, with progress and a cancel handle: `cargo run --release --example generate`.

use peregrine::{AdapterChoice, AnswerOptions, Checkpoint, Engine, EngineOptions, Gpu, Sampling};
use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gpu = Gpu::open(&AdapterChoice::Best)?;
    let checkpoint = Checkpoint::embedded()?; // or Checkpoint::open(path), with a folder or a GGUF file
    let engine = Engine::load(&gpu, checkpoint, EngineOptions::default(), &mut |progress| {
        eprint!("\r{} of {} bytes", progress.done, progress.total);
    })?;
    let mut session = engine.session(Sampling::GREEDY)?;
    let stop = session.cancel_handle(); // for a button; works from any thread
    for piece in session.send("Tell me a story about a fox.", &AnswerOptions::tokens(200))? {
        print!("{}", piece?);
        std::io::stdout().flush()?;
    }
    println!();
    drop(stop);
    Ok(())
}
