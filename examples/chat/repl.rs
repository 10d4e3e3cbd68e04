//! The chat loop, written on the public API alone; the example and `peregrine chat` share it.

#[path = "branches.rs"]
mod branches;
#[path = "commands.rs"]
mod commands;
#[path = "completion.rs"]
mod completion;
#[path = "input.rs"]
mod input;
#[path = "interrupts.rs"]
mod interrupts;
#[path = "last_chat.rs"]
mod last_chat;
#[path = "screen.rs"]
pub mod screen;
#[path = "settings.rs"]
mod settings;
#[path = "signals.rs"]
pub mod signals;
#[path = "wrap.rs"]
mod wrap;

use branches::Branches;
use input::{Input, Typed};
use interrupts::Interrupts;
use last_chat::LastChat;
use peregrine::Error;
use peregrine::runtime::{Answer, AnswerOptions, Finish, PrefixBudget, Reuse, Session};
use screen::{Printed, Stats, note, stream};
use std::io::Write;
use std::time::Instant;

/// The prefix cache: at most 256 MiB of the memory for states.
const PREFIX_CACHE: PrefixBudget = PrefixBudget { bytes: 256 << 20, reuse: Reuse::Read };

/// What to do with the saved last chat of the same model.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "the example always offers it")]
pub enum LastChatMode {
    /// On a terminal, ask whether to continue it; on exit, save this chat in its place.
    Offer,
    /// Continue it without asking; on exit, save this chat in its place.
    Continue,
    /// Leave it unchanged and do not save this chat.
    Ignore,
}

/// Settings of a chat.
pub struct Setup<'a> {
    pub options: AnswerOptions,
    pub last: LastChatMode,
    /// Applies the command line's settings over those of a continued chat.
    pub apply_settings: &'a dyn Fn(&mut Session) -> anyhow::Result<()>,
}

/// Consecutive device losses after which an answer is given up.
pub const MAX_LOSSES: usize = 3;

struct Repl<'a> {
    session: &'a mut Session,
    options: AnswerOptions,
    branches: Branches,
    interrupts: Interrupts,
    interactive: bool,
    stats: bool,
}

/// What follows a command.
#[derive(PartialEq, Eq)]
enum Next {
    /// Read the next line.
    Line,
    /// Leave the chat.
    Leave,
}

/// Reads messages and commands from stdin and streams answers to stdout, until `/exit` or the end of the input.
/// On a terminal it shows a prompt. In a pipe, stdout has the answers only, each followed by a newline.
pub fn run(session: &mut Session, setup: &Setup<'_>) -> anyhow::Result<()> {
    let interactive = Input::is_interactive();
    session.engine().set_prefix_cache(PREFIX_CACHE);
    let interrupts = Interrupts::install(session.cancel_handle(), interactive);
    let label = session.engine().checkpoint().label().to_owned();
    let last = if setup.last == LastChatMode::Ignore { None } else { LastChat::of(&label) };
    let mut input = Input::new()?;
    let mut repl = Repl {
        session,
        options: setup.options.clone(),
        branches: Branches::default(),
        interrupts,
        interactive,
        stats: interactive,
    };
    if interactive {
        note("/help lists the commands");
    }
    let first = match &last {
        Some(last) => repl.resume_last(last, setup, &mut input)?,
        None => None,
    };
    let outcome = repl.read_loop(&mut input, first);
    if let (true, Some(last)) = (interactive, &last) {
        repl.save_last(last);
    }
    outcome
}

impl Repl<'_> {
    /// The main loop; `first` is input that was read before it.
    fn read_loop(&mut self, input: &mut Input, first: Option<Typed>) -> anyhow::Result<()> {
        let mut first = first;
        let mut pressed = false;
        loop {
            input.complete_branches(self.branches.names());
            self.interrupts.forget();
            let typed = match first.take() {
                Some(typed) => typed,
                None => input.read()?,
            };
            if self.interrupts.leaving() {
                return Ok(());
            }
            pressed = match typed {
                Typed::End => return Ok(()),
                Typed::Interrupted { empty: true } if pressed => return Ok(()),
                Typed::Interrupted { empty: true } => {
                    note("press Ctrl-C again or Ctrl-D to leave");
                    true
                }
                Typed::Interrupted { empty: false } => false,
                Typed::Line(text) | Typed::Quoted(text) if text.trim().is_empty() => false,
                Typed::Line(line) if line.trim().starts_with('/') => {
                    if self.command(line.trim())? == Next::Leave {
                        return Ok(());
                    }
                    false
                }
                Typed::Line(text) | Typed::Quoted(text) => {
                    self.answer(|session, options| session.send(text.trim(), options))?;
                    false
                }
            };
            if self.interrupts.leaving() {
                return Ok(());
            }
        }
    }

    /// Continues the last chat, if the user wants to. A reply other than yes or no is returned as the first message.
    fn resume_last(&mut self, last: &LastChat, setup: &Setup<'_>, input: &mut Input) -> anyhow::Result<Option<Typed>> {
        let asks = setup.last == LastChatMode::Offer;
        if asks && (!self.interactive || self.session.position() > 0) {
            return Ok(None);
        }
        let snapshot = match self.report(last.open().map_err(Into::into))? {
            Some(Some(snapshot)) => snapshot,
            Some(None) if !asks => {
                note("no saved chat with this model to continue");
                return Ok(None);
            }
            _ => return Ok(None),
        };
        if asks {
            let answer = input.ask(&last.question(&snapshot))?;
            let Typed::Line(line) = &answer else { return Ok(Some(answer)) };
            match line.trim().to_lowercase().as_str() {
                "y" | "yes" => {}
                "" | "n" | "no" => return Ok(None),
                _ => return Ok(Some(answer)),
            }
        }
        let restored = self.session.restore(&snapshot);
        let Some(warnings) = self.report(restored.map_err(Into::into))? else { return Ok(None) };
        warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
        (setup.apply_settings)(self.session)?;
        self.show_last_messages();
        Ok(None)
    }

    /// Shows the last two messages of a continued chat.
    fn show_last_messages(&self) {
        let mut end = self.session.messages().iter().rev().take(2).collect::<Vec<_>>();
        end.reverse();
        for message in end {
            note(&format!("{}: {}", screen::printable(&message.role), preview(&message.content)));
        }
    }

    /// Saves the chat for the next start, if it has a user message.
    fn save_last(&self, last: &LastChat) {
        if self.session.messages().iter().all(|message| message.role != "user") {
            return;
        }
        let save = || self.session.snapshot().and_then(|snapshot| last.save(&snapshot));
        let saved = match save() {
            Err(lost @ Error::DeviceLost { .. }) if self.reopen(&lost).is_ok() => save(),
            saved => saved,
        };
        match saved {
            Ok(()) => {
                note("chat saved: the next start offers to continue it");
                let parked = self.branches.parked();
                if !parked.is_empty() {
                    note(&format!("other conversations are not saved: {}", parked.join(", ")));
                }
            }
            Err(error) => note(&format!("chat not saved: {error}")),
        }
    }

    /// Reopens a lost device.
    fn reopen(&self, lost: &Error) -> anyhow::Result<()> {
        let engine = self.session.engine();
        if engine.recover(&mut |_| {})? {
            note(&reopened_message(lost, &engine.gpu().info().name));
        }
        Ok(())
    }

    /// The value of an outcome. A library error is printed and gives `None`, so that the conversation continues; a lost device
    /// is reopened first.
    fn report<T>(&self, outcome: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
        match outcome.map_err(|error| error.downcast::<Error>()) {
            Ok(value) => Ok(Some(value)),
            Err(Ok(error)) => {
                if matches!(error, Error::DeviceLost { .. }) {
                    self.reopen(&error)?;
                }
                note(&format!("error: {error}"));
                Ok(None)
            }
            Err(Err(other)) => Err(other),
        }
    }

    /// Streams an answer, or the rest of one, and adds it to what was printed; gives the time of its first token. Subtracts its
    /// tokens from `options.max_tokens`.
    fn stream(
        &mut self,
        ask: &dyn for<'s> Fn(&'s mut Session, &AnswerOptions) -> peregrine::Result<Answer<'s>>,
        options: &mut AnswerOptions,
        told: &mut Printed,
    ) -> anyhow::Result<Instant> {
        let cancel = self.session.cancel_handle();
        self.interrupts.answering(true);
        let outcome = ask(self.session, options).map_err(Into::into).and_then(|mut answer| {
            // Ctrl-C may have been pressed before the answer started.
            if self.interrupts.pressed() {
                cancel.cancel();
            }
            let first = Instant::now();
            let outcome = stream(&mut answer, screen::columns(), told);
            options.max_tokens = options.max_tokens.map(|most| most.saturating_sub(answer.generation().tokens()));
            outcome.map(|()| first)
        });
        self.interrupts.answering(false);
        outcome
    }

    /// Streams an answer and prints notes and statistics. If the device is lost, reopens it and continues the answer.
    fn answer(
        &mut self,
        ask: impl for<'s> Fn(&'s mut Session, &AnswerOptions) -> peregrine::Result<Answer<'s>>,
    ) -> anyhow::Result<()> {
        let (position, before) = (self.session.position(), self.session.messages().to_vec());
        let messages = before.len();
        let started = Instant::now();
        let mut options = self.options.clone();
        let mut told = Printed::NOTHING;
        let mut outcome = self.stream(&ask, &mut options, &mut told);
        for _ in 0..MAX_LOSSES {
            let Some(lost @ Error::DeviceLost { .. }) = outcome.as_ref().err().and_then(|error| error.downcast_ref())
            else {
                break;
            };
            if screen::columns().is_some() {
                told.end_line()?;
            }
            self.reopen(lost)?;
            let begun = self.session.messages() != before;
            outcome = if begun {
                self.stream(&|session, options| session.resume(options), &mut options, &mut told)
            } else {
                self.stream(&ask, &mut options, &mut told)
            };
        }
        if outcome.is_ok() && told.empty {
            writeln!(std::io::stdout())?;
        }
        told.end_line()?;
        let Some(first) = self.report(outcome)? else { return Ok(()) };
        if self.session.was_read_again() {
            note(
                "the conversation was read again from its start: earlier messages changed, or their states were dropped",
            );
        }
        match told.finish {
            Some(Finish::Cancelled) if told.tokens == 0 && self.session.messages().len() == messages => {
                note("stopped before the answer began; the conversation is unchanged");
            }
            Some(Finish::Cancelled) => note("stopped; /continue resumes the answer"),
            Some(Finish::Length) if self.interactive && !told.empty => {
                note("token limit reached; /continue resumes the answer");
            }
            _ => told.why_empty().into_iter().for_each(note),
        }
        let read = self.session.position().saturating_sub(position + told.tokens);
        if let (true, Some(figures)) = (self.stats, Stats::of(read, told.tokens, (started, first))) {
            note(&figures.to_string());
        }
        Ok(())
    }
}

/// A line that says that a lost device was reopened.
pub fn reopened_message(lost: &Error, adapter: &str) -> String {
    let reason = match lost {
        Error::DeviceLost { reason } => reason.as_str(),
        _ => "",
    };
    format!("the GPU was lost ({reason}); reopened {adapter}, continuing")
}

/// The beginning of a message, shortened to one line.
fn preview(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", screen::printable(&line[..end])),
        None => screen::printable(line),
    }
}
