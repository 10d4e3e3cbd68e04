//! The chat loop, on the public API alone: the example and `peregrine chat` are both this.

#[path = "branches.rs"]
mod branches;
#[path = "input.rs"]
mod input;
#[path = "interrupts.rs"]
mod interrupts;
#[path = "settings.rs"]
mod settings;

use branches::Branches;
use input::{Input, Typed, file_name};
use interrupts::Interrupts;
use peregrine::runtime::{Answer, AnswerOptions, Finish, PrefixBudget, Reuse, Sampling, Session};
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// A text that begins as an earlier one did is not read again: the cache for that takes 256 MiB at most, of what states may take.
const BEGINNINGS: PrefixBudget = PrefixBudget { bytes: 256 << 20, reuse: Reuse::Read };

const COMMANDS: &[&str] = &[
    "/help",
    "/exit",
    "/clear",
    "/undo",
    "/regen",
    "/continue",
    "/fork",
    "/switch",
    "/save",
    "/load",
    "/system",
    "/set",
    "/stats",
    "/read",
    "/tokens",
    "/device",
];

const HELP: &str = "\
/clear             forget the conversation, but not the system prompt
/undo              take back the last message and its answer
/regen             answer the last message again, with another seed
/continue          go on with an answer that was cut off
/fork NAME         go on with a copy of the conversation; the other stays as it is
/switch NAME       go to another conversation; alone, list them
/save FILE         write the conversation and its state to a file
/load FILE         go on from such a file; the present conversation is kept beside it
/system TEXT       set the system prompt; alone, show it
/set NAME VALUE    temp, top_k, top_p, min_p, seed, repeat_penalty, presence_penalty, frequency_penalty, n; alone, show them
/stats             show speed after each answer, or stop that; what is kept to go back to
/read FILE         send a file as a message
/tokens            tokens the conversation has taken, and what is kept to go back to
/device            the adapter and the memory in use
/exit              leave (so do Ctrl-D, and Ctrl-C twice)
\"\"\" begins and ends a message of several lines, \\ at the end of a line goes on in the next; Ctrl-C stops an answer";

struct Repl<'a> {
    session: &'a mut Session,
    options: AnswerOptions,
    branches: Branches,
    interrupts: Interrupts,
    interactive: bool,
    colour: bool,
    stats: bool,
}

/// Reads messages and commands from stdin and streams answers to stdout, until `/exit` or the end of the input.
/// On a terminal it shows a prompt; in a pipe stdout has the answers alone, each ended by a newline.
pub fn run(session: &mut Session, options: &AnswerOptions) -> anyhow::Result<()> {
    let interactive = Input::is_interactive();
    session.engine().set_prefix_cache(BEGINNINGS);
    let mut repl = Repl {
        session,
        options: options.clone(),
        branches: Branches::default(),
        interrupts: Interrupts::install(),
        interactive,
        colour: std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        stats: interactive,
    };
    let mut input = Input::new(COMMANDS)?;
    if interactive {
        repl.note("/help shows the commands");
    }
    let mut interrupted = false;
    loop {
        match input.read()? {
            Typed::End => return Ok(()),
            Typed::Interrupted if interrupted => return Ok(()),
            Typed::Interrupted => {
                interrupted = true;
                repl.note("Ctrl-C once more leaves, and so does Ctrl-D");
                continue;
            }
            Typed::Text(text) if text.trim().is_empty() => {}
            Typed::Text(text) => match text.trim() {
                "/exit" | "/bye" | "/quit" => return Ok(()),
                command if command.starts_with('/') => repl.command(command)?,
                message => repl.answer(|session, options| session.send(message, options))?,
            },
        }
        interrupted = false;
    }
}

impl Repl<'_> {
    /// Says something that is not an answer, on stderr.
    fn note(&self, text: &str) {
        if self.colour { eprintln!("\x1b[2m{text}\x1b[0m") } else { eprintln!("{text}") }
    }

    fn command(&mut self, line: &str) -> anyhow::Result<()> {
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match command {
            "/help" | "/?" => self.note(HELP),
            "/clear" => {
                let system = self.system().map(str::to_owned);
                self.session.clear()?;
                if let Some(system) = system {
                    self.session.system(&system);
                }
            }
            "/undo" => {
                let undone = self.session.undo();
                if let Some(message) = self.told(undone.map_err(Into::into))? {
                    self.note(&format!("took back {:?}", beginning(&message.content)));
                }
            }
            "/regen" => {
                let sampling = self.session.sampling().clone();
                if sampling.temperature > 0.0 {
                    let seed = sampling.seed.wrapping_add(1);
                    self.session.set_sampling(Sampling { seed, ..sampling })?;
                } else {
                    self.note("the temperature is 0: the answer will be the same (/set temp 0.8)");
                }
                self.answer(|session, options| session.retry(options))?;
            }
            "/continue" => self.answer(|session, options| session.resume(options))?,
            "/fork" => {
                let forked = self.branches.fork(self.session, rest);
                self.say(forked)?;
            }
            "/switch" if rest.is_empty() => self.note(&self.branches.list(self.session)),
            "/switch" => {
                let switched = self.branches.switch(self.session, rest);
                self.say(switched)?;
            }
            "/save" | "/load" if rest.is_empty() => self.note(&format!("it needs the name of a file: {command} FILE")),
            "/save" => {
                let saved = self.session.snapshot().and_then(|snapshot| snapshot.save(file_name(rest)));
                let (tokens, turns) = (self.session.position(), self.session.messages().len());
                self.say(saved.map(|()| format!("saved {tokens} tokens in {turns} messages to {rest}")))?;
            }
            "/load" => {
                let loaded = self.branches.load(self.session, &file_name(rest));
                self.say(loaded)?;
            }
            "/system" if rest.is_empty() => self.note(self.system().unwrap_or("there is no system prompt")),
            "/system" => self.session.system(rest),
            "/set" if rest.is_empty() => self.note(&settings::shown(self.session.sampling(), &self.options)),
            "/set" => {
                let (mut sampling, mut options) = (self.session.sampling().clone(), self.options.clone());
                match settings::change(rest, &mut sampling, &mut options) {
                    Ok(()) => {
                        let set = self.session.set_sampling(sampling);
                        if self.told(set.map_err(Into::into))?.is_some() {
                            self.options = options;
                        }
                    }
                    Err(why) => self.note(&why),
                }
            }
            "/stats" => {
                self.stats = !self.stats;
                self.note(if self.stats { "speed is shown" } else { "speed is not shown" });
                self.note(&self.kept());
            }
            "/read" => match std::fs::read_to_string(file_name(rest)) {
                Ok(text) => self.answer(|session, options| session.send(text.trim_end(), options))?,
                Err(error) => self.note(&format!("cannot read {rest:?}: {error}")),
            },
            "/tokens" => {
                let (tokens, turns) = (self.session.position(), self.session.messages().len());
                self.note(&format!("{tokens} tokens in {turns} messages"));
                self.note(&self.kept());
            }
            "/device" => {
                let gpu = self.session.engine().gpu();
                self.note(&format!("{}, {:.1} MB in use", gpu.info(), gpu.allocated_bytes() as f64 / 1e6));
            }
            other => self.note(&format!("there is no {other}; /help shows the commands")),
        }
        Ok(())
    }

    /// Gives what came of something. What went wrong is said, and the conversation goes on; nothing works without the device.
    fn told<T>(&self, outcome: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
        match outcome.map_err(|error| error.downcast::<peregrine::Error>()) {
            Ok(value) => Ok(Some(value)),
            Err(Ok(lost @ peregrine::Error::DeviceLost { .. })) => Err(lost.into()),
            Err(Ok(error)) => {
                self.note(&format!("error: {error}"));
                Ok(None)
            }
            Err(Err(other)) => Err(other),
        }
    }

    /// Says what came of something.
    fn say(&self, outcome: peregrine::Result<String>) -> anyhow::Result<()> {
        let said = self.told(outcome.map_err(Into::into))?;
        said.iter().for_each(|text| self.note(text));
        Ok(())
    }

    /// What is kept to go back to, and of the beginnings of texts.
    fn kept(&self) -> String {
        let engine = self.session.engine();
        let (states, beginnings) = (engine.state_stats(), engine.prefix_stats());
        let held = |held: peregrine::runtime::Held| format!("{} ({:.1} MB)", held.states, held.bytes as f64 / 1e6);
        format!(
            "states kept: {} on the device, {} in memory, {} on disk, {} dropped\n\
             beginnings kept: {} ({:.1} MB), found {} times and {} times not, {} tokens not read again",
            held(states.device),
            held(states.host),
            held(states.disk),
            states.dropped,
            beginnings.states,
            beginnings.bytes as f64 / 1e6,
            beginnings.hits,
            beginnings.misses,
            beginnings.tokens_saved,
        )
    }

    fn system(&self) -> Option<&str> {
        self.session.messages().iter().find(|m| m.role == "system").map(|m| m.content.as_str())
    }

    /// Streams an answer. What goes wrong with it is said, and the conversation goes on.
    fn answer(
        &mut self,
        ask: impl for<'s> FnOnce(&'s mut Session, &AnswerOptions) -> peregrine::Result<Answer<'s>>,
    ) -> anyhow::Result<()> {
        let before = self.session.position();
        let started = Instant::now();
        self.interrupts.watch(Some(self.session.cancel_handle()));
        let outcome = stream(ask(self.session, &self.options));
        self.interrupts.watch(None);
        let Some((tokens, first, finish)) = self.told(outcome)? else { return Ok(()) };
        if self.session.was_read_again() {
            self.note(
                "the conversation was read again from its start: its earlier turns have changed, or were not kept",
            );
        }
        match finish {
            Some(Finish::Cancelled) => self.note("stopped; /continue goes on"),
            Some(Finish::Length) if self.interactive => self.note("cut off at its limit of tokens; /continue goes on"),
            _ => {}
        }
        if self.stats {
            let (first, total) = (first.duration_since(started).as_secs_f64(), started.elapsed().as_secs_f64());
            let read = self.session.position().saturating_sub(before + tokens);
            let memory = self.session.engine().gpu().allocated_bytes() as f64 / 1e6;
            self.note(&format!(
                "[ Prompt: {read} tokens, {:.1} t/s | Generation: {tokens} tokens, {:.1} t/s | First token: {first:.2} s | {memory:.1} MB ]",
                read as f64 / first.max(1e-9),
                tokens as f64 / (total - first).max(1e-9),
            ));
        }
        Ok(())
    }
}

/// What a message begins with, short enough for a line.
fn beginning(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

/// Prints an answer as it comes; gives its number of tokens, when the first was there, and how it ended.
fn stream(answer: peregrine::Result<Answer<'_>>) -> anyhow::Result<(u64, Instant, Option<Finish>)> {
    let mut answer = answer?;
    let first = Instant::now();
    let mut stdout = std::io::stdout().lock();
    for piece in &mut answer {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                writeln!(stdout)?;
                return Err(error.into());
            }
        };
        write!(stdout, "{piece}")?;
        stdout.flush()?;
    }
    writeln!(stdout)?;
    Ok((answer.generation().tokens() as u64, first, answer.finish()))
}
