// Saves, restores and forks the state of a conversation: `cargo run --release --example states`.

use peregrine::gpu::{AdapterChoice, Gpu};
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Sampling, Session, Snapshot};
use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gpu = Gpu::open(&AdapterChoice::Best)?;
    let options = EngineOptions::default().slots(2); // one per open session
    let engine = Engine::load(&gpu, Checkpoint::embedded()?, options, &mut |_| {})?;
    let mut session = engine.session(Sampling::GREEDY)?;
    say(&mut session, "What is 3 plus 4?")?;

    let file = std::env::temp_dir().join("talk.state");
    session.snapshot()?.save(&file)?; // atomic: the old file or the new one
    session.restore(&Snapshot::open(&file)?)?; // in this process or another; bit for bit
    let mut other = session.fork()?; // two sessions from one state
    say(&mut session, "Tell me a story about a fox.")?;
    say(&mut other, "Tell me a story about a bear.")
}

fn say(session: &mut Session, text: &str) -> Result<(), Box<dyn std::error::Error>> {
    for piece in session.send(text, &AnswerOptions::tokens(40))? {
        print!("{}", piece?);
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
