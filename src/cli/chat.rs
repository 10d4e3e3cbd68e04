//! `peregrine chat`: the REPL of `examples/chat`, with the command line's settings.

use super::model::ModelArgs;
use super::sampling::SamplingArgs;
use super::template::TemplateArgs;
use clap::Args;

#[path = "../../examples/chat/repl.rs"]
mod repl;

#[derive(Args)]
pub struct Chat {
    #[command(flatten)]
    model: ModelArgs,
    /// The system prompt
    #[arg(long, value_name = "TEXT")]
    system_prompt: Option<String>,
    #[command(flatten)]
    template: TemplateArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Chat {
    pub fn run(self) -> anyhow::Result<()> {
        let mut checkpoint = self.model.checkpoint()?;
        self.template.apply(&mut checkpoint)?;
        checkpoint.tokenizer()?;
        checkpoint.template()?;
        let (sampling, options) = self.sampling.resolve(&checkpoint)?;
        let engine = self.model.load(checkpoint)?;
        let mut session = engine.session(sampling)?;
        if let Some(system) = &self.system_prompt {
            session.system(system);
        }
        repl::run(&mut session, &options)
    }
}
