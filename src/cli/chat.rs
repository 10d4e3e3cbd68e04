//! `peregrine chat`: the REPL of `examples/chat` with command line options.

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
    /// System prompt
    #[arg(long, value_name = "TEXT")]
    system_prompt: Option<String>,
    /// Continue the last chat with this model without asking. Chats are saved on exit
    #[arg(long = "continue")]
    resume: bool,
    /// Do not save this chat on exit, and do not offer to continue the last one
    #[arg(long, conflicts_with = "resume")]
    no_autosave: bool,
    /// Continue from a state saved with `/save` or `run --save-state`. Its sampling settings apply unless given here
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
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
        let apply_settings = |session: &mut Session| {
            let was = session.sampling().clone();
            session.set_sampling(self.sampling.resolve_over(session.engine().checkpoint(), &was)?.0)?;
            set_system_prompt(session, system.as_deref());
            Ok(())
        };
        match &snapshot {
            Some(snapshot) => {
                session.restore(snapshot)?.iter().for_each(|warning| eprintln!("{warning}"));
                apply_settings(&mut session)?;
            }
            None => set_system_prompt(&mut session, system.as_deref()),
        }
        let last = match () {
            () if self.no_autosave => LastChatMode::Ignore,
            () if self.resume => LastChatMode::Continue,
            () => LastChatMode::Offer,
        };
        repl::run(&mut session, &Setup { options, last, apply_settings: &apply_settings })
    }
}

/// Sets the given system prompt unless the conversation already has it.
fn set_system_prompt(session: &mut Session, system: Option<&str>) {
    if let Some(system) = system
        && !session.messages().iter().any(|message| message.role == "system" && message.content == system)
    {
        session.system(system);
    }
}
