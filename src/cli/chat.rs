//! `peregrine chat`: the REPL of `examples/chat`, with the command line's settings.

use super::model::ModelArgs;
use super::sampling::SamplingArgs;
use super::template::TemplateArgs;
use clap::Args;
use peregrine::runtime::{Session, Snapshot};
use repl::{LastChatMode, Setup};
use std::path::PathBuf;

#[path = "../../examples/chat/repl.rs"]
pub mod repl;

#[derive(Args)]
pub struct Chat {
    #[command(flatten)]
    model: ModelArgs,
    /// The system prompt
    #[arg(long, value_name = "TEXT")]
    system_prompt: Option<String>,
    /// Go on with the last chat with this model without asking; a chat is kept when you leave it
    #[arg(long = "continue")]
    go_on: bool,
    /// Keep no chat when you leave, and do not ask for the last one
    #[arg(long, conflicts_with = "go_on")]
    no_autosave: bool,
    /// Go on from a saved state, of `/save` or `run --save-state`. Its sampling holds but for what is given here
    #[arg(long, value_name = "FILE", conflicts_with = "go_on")]
    load_state: Option<PathBuf>,
    #[command(flatten)]
    template: TemplateArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Chat {
    pub fn run(self) -> anyhow::Result<()> {
        let escaped = |text: &String| self.sampling.escape.apply("--system-prompt", text);
        let system = self.system_prompt.as_ref().map(escaped).transpose()?;
        let snapshot = self.load_state.as_ref().map(Snapshot::open).transpose()?;
        let mut checkpoint = self.model.checkpoint()?;
        self.template.apply(&mut checkpoint)?;
        checkpoint.tokenizer()?;
        checkpoint.template()?;
        let (sampling, options) = self.sampling.resolve(&checkpoint)?;
        let engine = self.model.load(checkpoint)?;
        let mut session = engine.session(sampling)?;
        let over = |session: &mut Session| {
            let was = session.sampling().clone();
            session.set_sampling(self.sampling.resolve_over(session.engine().checkpoint(), &was)?.0)?;
            begin(session, system.as_deref());
            Ok(())
        };
        match &snapshot {
            Some(snapshot) => {
                session.restore(snapshot)?.iter().for_each(|warning| eprintln!("{warning}"));
                over(&mut session)?;
            }
            None => begin(&mut session, system.as_deref()),
        }
        let last = match () {
            () if self.no_autosave => LastChatMode::Ignore,
            () if self.go_on => LastChatMode::Continue,
            () => LastChatMode::Offer,
        };
        repl::run(&mut session, &Setup { options, last, over: &over })
    }
}

/// Sets the system prompt that was given, where the conversation does not begin with it.
fn begin(session: &mut Session, system: Option<&str>) {
    if let Some(system) = system
        && !session.messages().iter().any(|message| message.role == "system" && message.content == system)
    {
        session.system(system);
    }
}
