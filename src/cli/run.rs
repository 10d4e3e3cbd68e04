//! `peregrine run`: one prompt, one answer. Only the answer goes to stdout.

use super::model::{ModelArgs, TemplateArgs};
use super::sampling::SamplingArgs;
use anyhow::{Context, bail};
use clap::Args;
use peregrine::text::Specials;
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    model: ModelArgs,
    /// The prompt; `-` reads it from stdin
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// A file with the prompt
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Take the prompt as a message and answer it, by the model's chat template
    #[arg(long, visible_alias = "cnv", overrides_with = "no_conversation")]
    conversation: bool,
    /// Take the prompt as plain text and continue it (the default)
    #[arg(long, visible_alias = "no-cnv", hide = true)]
    no_conversation: bool,
    /// With -cnv: the system prompt
    #[arg(long, value_name = "TEXT", requires = "conversation")]
    system_prompt: Option<String>,
    /// Let text that spells a special token, such as <|im_end|>, become that token
    #[arg(long)]
    parse_special: bool,
    #[command(flatten)]
    template: TemplateArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Run {
    pub fn run(self) -> anyhow::Result<()> {
        let prompt = self.prompt()?;
        let mut checkpoint = self.model.checkpoint()?;
        self.template.apply(&mut checkpoint)?;
        let specials = if self.parse_special { Specials::Parse } else { Specials::Literal };
        let ids = checkpoint.tokenizer()?.encode(&prompt, specials)?;
        let (sampling, options) = self.sampling.resolve(&checkpoint)?;
        let engine = self.model.load(checkpoint)?;
        let mut session = engine.session(sampling)?;
        let started = Instant::now();
        let mut answer = if self.conversation {
            if let Some(system) = &self.system_prompt {
                session.system(system);
            }
            session.send(&prompt, &options)?
        } else {
            session.complete(&ids, &options)?
        };
        let first = started.elapsed().as_secs_f64();
        let mut stdout = std::io::stdout().lock();
        for piece in &mut answer {
            write!(stdout, "{}", piece?)?;
            stdout.flush()?;
        }
        if stdout.is_terminal() {
            writeln!(stdout)?;
        }
        let tokens = answer.generation().tokens() as u64;
        drop(answer);
        if self.model.verbose || std::io::stderr().is_terminal() {
            let (total, read) = (started.elapsed().as_secs_f64(), session.position().saturating_sub(tokens));
            eprintln!(
                "[ Prompt: {read} tokens, {:.1} t/s | Generation: {tokens} tokens, {:.1} t/s | First token: {first:.3} s ]",
                read as f64 / first,
                tokens as f64 / (total - first)
            );
        }
        Ok(())
    }

    fn prompt(&self) -> anyhow::Result<String> {
        let text = match (&self.prompt, &self.file) {
            (Some(text), _) if text != "-" => return Ok(text.clone()),
            (_, Some(path)) => std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
            (None, None) if std::io::stdin().is_terminal() => {
                bail!("no prompt: give one with -p TEXT, -f FILE or on stdin")
            }
            _ => {
                let mut text = Vec::new();
                std::io::stdin().lock().read_to_end(&mut text).context("cannot read stdin")?;
                text
            }
        };
        String::from_utf8(text).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            anyhow::anyhow!("the prompt is not UTF-8 text: byte {at} does not belong to a character")
        })
    }
}
