//! `peregrine run`: one prompt, one answer. stdout has the answer only.

use super::chat::repl::screen::{self, Printed, Stats, note};
use super::force::ForceArgs;
use super::interrupt::Interrupt;
use super::losses::Losses;
use super::model::ModelArgs;
use super::prompt::{Prompt, ReadPrompt};
use super::sampling::SamplingArgs;
use super::template::TemplateArgs;
use clap::Args;
use peregrine::Error;
use peregrine::output::AtomicFile;
use peregrine::runtime::{AnswerOptions, Finish, Session, Snapshot};
use peregrine::text::Specials;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    model: ModelArgs,
    /// Prompt; escapes such as \n are processed (see --escape); `-` reads stdin
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// File with the prompt. One newline at its end is dropped, as from stdin; escapes are not processed
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Treat the prompt as a chat message and answer it with the model's chat template
    #[arg(long, visible_alias = "cnv", overrides_with = "no_conversation")]
    conversation: bool,
    /// Continue the prompt as plain text (the default)
    #[arg(long, visible_alias = "no-cnv", hide = true)]
    no_conversation: bool,
    /// System prompt, with -cnv
    #[arg(long, value_name = "TEXT", requires = "conversation")]
    system_prompt: Option<String>,
    /// Parse special tokens such as <|im_end|> in the prompt
    #[arg(long)]
    parse_special: bool,
    /// Save the final state to FILE, also if Ctrl-C, SIGTERM, SIGHUP or -n cuts the run short. Overwrites the file of
    /// --load-state; any other existing file needs --force
    #[arg(long, value_name = "FILE")]
    save_state: Option<PathBuf>,
    /// Save the state in half precision, at half the size
    #[arg(long, requires = "save_state")]
    state_f16: bool,
    /// Continue from a saved state, with the prompt if one is given. Its sampling settings apply unless given here
    #[arg(long, value_name = "FILE")]
    load_state: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    template: TemplateArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Run {
    pub fn run(self) -> anyhow::Result<()> {
        let interrupt = Interrupt::default();
        let prompt = self.prompt(&interrupt)?;
        let snapshot = self.load_state.as_ref().map(Snapshot::open).transpose()?;
        if let Some(path) = &self.save_state {
            // Fail on an unwritable file before any work.
            self.force.check_unless_input(path, self.load_state.as_deref())?;
            drop(AtomicFile::create(path)?);
        }
        let mut checkpoint = self.model.checkpoint()?;
        self.template.apply(&mut checkpoint)?;
        checkpoint.tokenizer()?;
        if self.conversation {
            checkpoint.template()?;
        }
        let (sampling, options) = match &snapshot {
            Some(snapshot) => self.sampling.resolve_over(&checkpoint, snapshot.sampling())?,
            None => self.sampling.resolve(&checkpoint)?,
        };
        let engine = self.model.load(checkpoint)?;
        let mut losses = Losses::of(&engine);
        let mut session = losses.insist(|| engine.session(sampling.clone()))?;
        if let Some(snapshot) = &snapshot {
            let warnings = losses.insist(|| session.restore(snapshot))?;
            warnings.iter().for_each(|warning| eprintln!("{warning}"));
            losses.insist(|| session.set_sampling(sampling.clone()))?;
        }
        interrupt.listen();
        let mut answering = Answering { session: &mut session, options, interrupt: &interrupt, losses: &mut losses };
        let outcome = self.answer(&mut answering, prompt);
        if let (Some(path), true) = (&self.save_state, outcome.is_ok()) {
            losses.insist(|| self.snapshot(&session))?.save(path)?;
        }
        match outcome? {
            Outcome::Done => Ok(()),
            Outcome::Interrupted => Err(Error::Cancelled.into()),
            Outcome::OutputClosed(error) => Err(error.into()),
        }
    }

    fn snapshot(&self, session: &Session) -> Result<Snapshot, Error> {
        let snapshot = session.snapshot()?;
        Ok(if self.state_f16 { snapshot.halved() } else { snapshot })
    }

    /// Feeds the prompt, if there is one, and prints the answer.
    fn answer(&self, with: &mut Answering<'_>, prompt: Option<Prompt>) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let before = with.session.position();
        let begin = match prompt {
            None => Begin::Resume,
            Some(prompt) if self.conversation => {
                let text = match prompt.text() {
                    Err(_) if with.interrupt.hit() => return Ok(Outcome::Interrupted),
                    text => text?,
                };
                if let Some(system) = &self.system_prompt {
                    with.session.system(&self.sampling.escape.apply("--system-prompt", system)?);
                }
                Begin::Message(text)
            }
            Some(prompt) => {
                let specials = if self.parse_special { Specials::Parse } else { Specials::Literal };
                let read = prompt.feed(with.session, specials, with.interrupt, with.losses)?;
                if read.interrupted {
                    self.report_stopped(&read);
                    return Ok(Outcome::Interrupted);
                }
                Begin::Text
            }
        };
        with.interrupt.cancels(0, with.session.cancel_handle());
        let mut printed = Printed::NOTHING;
        let outcome = with.print(&begin, &mut printed);
        // Another run may continue the text of a saved state.
        let ends = outcome.is_err() || self.save_state.is_none() || std::io::stdout().is_terminal();
        let ended = if ends { printed.end_line() } else { Ok(()) };
        let outcome = outcome.and_then(|first| ended.map(|()| first).map_err(Into::into));
        let first = match outcome {
            Ok(first) => first,
            Err(error) => match error.downcast() {
                Ok(Error::NothingToResume) if begin == Begin::Resume => {
                    note("the saved answer is complete: give a prompt to continue");
                    return Ok(Outcome::Done);
                }
                Ok(error) => return Err(error.into()),
                Err(error) => match error.downcast() {
                    // stdout is closed, but the state of the last token can still be saved.
                    Ok(unwritten) => return Ok(Outcome::OutputClosed(unwritten)),
                    Err(error) => return Err(error),
                },
            },
        };
        // With --save-state -n 0 an empty answer is intended.
        if self.save_state.is_none() || printed.tokens > 0 {
            printed.why_empty().into_iter().for_each(note);
        }
        let read = with.session.position().saturating_sub(before + printed.tokens);
        if self.model.verbose || std::io::stderr().is_terminal() {
            Stats::of(read, printed.tokens, (started, first))
                .into_iter()
                .for_each(|figures| note(&figures.to_string()));
        }
        Ok(if printed.finish == Some(Finish::Cancelled) { Outcome::Interrupted } else { Outcome::Done })
    }

    fn report_stopped(&self, read: &ReadPrompt) {
        let ReadPrompt { tokens, bytes, .. } = read;
        let rest = match &self.save_state {
            Some(path) => format!("; continue with --load-state {} and the rest of the text", path.display()),
            None => String::new(),
        };
        note(&format!("interrupted while reading the prompt, after {bytes} bytes ({tokens} tokens){rest}"));
    }

    /// The prompt; `None` to continue a saved state without one.
    fn prompt(&self, interrupt: &Interrupt) -> anyhow::Result<Option<Prompt>> {
        match (&self.prompt, &self.file) {
            (Some(text), _) if text != "-" => Ok(Some(Prompt::of_text(&self.sampling.escape.apply("-p", text)?))),
            (_, Some(path)) => Prompt::of_file(path, interrupt).map(Some),
            (None, None) if self.load_state.is_some() => Ok(None),
            (None, None) if std::io::stdin().is_terminal() => {
                anyhow::bail!("no prompt: give one with -p TEXT, -f FILE or on stdin")
            }
            _ => Ok(Some(Prompt::of_stdin(interrupt))),
        }
    }
}

/// What the answer follows.
#[derive(PartialEq, Eq)]
enum Begin {
    /// The saved answer that was cut off.
    Resume,
    /// A message.
    Message(String),
    /// The text that was fed.
    Text,
}

/// A session that answers.
struct Answering<'a> {
    session: &'a mut Session,
    options: AnswerOptions,
    interrupt: &'a Interrupt,
    losses: &'a mut Losses,
}

impl Answering<'_> {
    /// Prints the answer; gives the time of its first token. If the device is lost, reopens it and goes on where the text ends.
    fn print(&mut self, begin: &Begin, printed: &mut Printed) -> anyhow::Result<Instant> {
        let mut first = None;
        loop {
            let begun = first.is_some();
            let answer = match begin {
                _ if begun => self.session.resume(&self.options),
                Begin::Resume => self.session.resume(&self.options),
                Begin::Message(text) => self.session.send(text, &self.options),
                Begin::Text => self.session.complete(&[], &self.options),
            };
            let outcome = match answer {
                Err(error) => Err(error.into()),
                Ok(mut answer) => {
                    first.get_or_insert_with(Instant::now);
                    let outcome = screen::stream(&mut answer, screen::columns(), printed);
                    let tokens = answer.generation().tokens();
                    self.options.max_tokens = self.options.max_tokens.map(|most| most.saturating_sub(tokens));
                    if tokens > 0 {
                        self.losses.went_on();
                    }
                    outcome
                }
            };
            match outcome.map_err(|error| error.downcast::<Error>()) {
                Ok(()) => return Ok(first.unwrap_or_else(Instant::now)),
                // The loss came after the last token.
                Err(Ok(Error::NothingToResume)) if begun => return Ok(first.unwrap_or_else(Instant::now)),
                Err(Ok(error)) => {
                    if screen::columns().is_some() {
                        printed.end_line()?;
                    }
                    self.losses.recover(error)?;
                }
                Err(Err(other)) => return Err(other),
            }
        }
    }
}

/// How the run ended.
enum Outcome {
    Done,
    Interrupted,
    /// stdout is closed.
    OutputClosed(std::io::Error),
}
