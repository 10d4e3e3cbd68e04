//! The chat loop, on the public API alone: the example and `peregrine chat` are both this.

#[path = "input.rs"]
mod input;

use input::{Input, Typed};
use peregrine::runtime::{Answer, AnswerOptions, CancelHandle, Finish, Sampling, Session};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const COMMANDS: &[&str] =
    &["/help", "/exit", "/clear", "/regen", "/continue", "/system", "/set", "/stats", "/read", "/tokens", "/device"];

const HELP: &str = "\
/clear             forget the conversation, but not the system prompt
/regen             answer the last message again, with another seed
/continue          go on with an answer that was cut off
/system TEXT       set the system prompt; alone, show it
/set NAME VALUE    temp, top_k, top_p, min_p, seed, repeat_penalty, presence_penalty, frequency_penalty, n; alone, show them
/stats             show speed after each answer, or stop that
/read FILE         send a file as a message
/tokens            tokens the conversation has taken
/device            the adapter and the memory in use
/exit              leave (so do Ctrl-D, and Ctrl-C twice)
\"\"\" begins and ends a message of several lines, \\ at the end of a line goes on in the next; Ctrl-C stops an answer";

/// Stops the answer that is under way; the second time within a second, or with none under way, the program.
#[derive(Clone, Default)]
struct Interrupts(Arc<Mutex<Option<UnderWay>>>);

/// An answer that can be stopped, and when somebody did.
struct UnderWay {
    handle: CancelHandle,
    stopped: Option<Instant>,
}

impl Interrupts {
    /// Takes Ctrl-C over for the process. Where that was done already, Ctrl-C ends the program as ever.
    fn install() -> Self {
        let interrupts = Interrupts::default();
        let heard = interrupts.clone();
        let _ = ctrlc::set_handler(move || {
            let mut under_way = heard.0.lock().unwrap_or_else(|e| e.into_inner());
            let again = |stopped: Instant| stopped.elapsed().as_secs_f64() < 1.0;
            match &mut *under_way {
                Some(answer) if !answer.stopped.is_some_and(again) => {
                    answer.handle.cancel();
                    answer.stopped = Some(Instant::now());
                }
                _ => std::process::exit(130),
            }
        });
        interrupts
    }

    fn watch(&self, handle: Option<CancelHandle>) {
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = handle.map(|handle| UnderWay { handle, stopped: None });
    }
}

struct Repl<'a> {
    session: &'a mut Session,
    options: AnswerOptions,
    interrupts: Interrupts,
    interactive: bool,
    colour: bool,
    stats: bool,
}

/// Reads messages and commands from stdin and streams answers to stdout, until `/exit` or the end of the input.
/// On a terminal it shows a prompt; in a pipe stdout has the answers alone, each ended by a newline.
pub fn run(session: &mut Session, options: &AnswerOptions) -> anyhow::Result<()> {
    let interactive = Input::is_interactive();
    let mut repl = Repl {
        session,
        options: options.clone(),
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
            "/system" if rest.is_empty() => self.note(self.system().unwrap_or("there is no system prompt")),
            "/system" => self.session.system(rest),
            "/set" => self.set(rest)?,
            "/stats" => {
                self.stats = !self.stats;
                self.note(if self.stats { "speed is shown" } else { "speed is not shown" });
            }
            "/read" => match std::fs::read_to_string(rest) {
                Ok(text) => self.answer(|session, options| session.send(text.trim_end(), options))?,
                Err(error) => self.note(&format!("cannot read {rest:?}: {error}")),
            },
            "/tokens" => {
                let (tokens, turns) = (self.session.position(), self.session.messages().len());
                self.note(&format!("{tokens} tokens in {turns} messages"));
            }
            "/device" => {
                let gpu = self.session.engine().gpu();
                self.note(&format!("{}, {:.1} MB in use", gpu.info(), gpu.allocated_bytes() as f64 / 1e6));
            }
            other => self.note(&format!("there is no {other}; /help shows the commands")),
        }
        Ok(())
    }

    fn system(&self) -> Option<&str> {
        self.session.messages().iter().find(|m| m.role == "system").map(|m| m.content.as_str())
    }

    fn set(&mut self, rest: &str) -> anyhow::Result<()> {
        let mut sampling = self.session.sampling().clone();
        if rest.is_empty() {
            let n = self.options.max_tokens.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX));
            let s = &sampling;
            self.note(&format!(
                "temp {} top_k {} top_p {} min_p {} seed {} repeat_penalty {} presence_penalty {} frequency_penalty {} n {n}",
                s.temperature, s.top_k, s.top_p, s.min_p, s.seed, s.repeat_penalty, s.presence_penalty, s.frequency_penalty
            ));
            return Ok(());
        }
        let (name, value) = rest.split_once([' ', '=']).unwrap_or((rest, ""));
        let value = value.trim();
        let known = match name {
            "temp" | "temperature" => value.parse().map(|v| sampling.temperature = v).is_ok(),
            "top_k" => value.parse().map(|v| sampling.top_k = v).is_ok(),
            "top_p" => value.parse().map(|v| sampling.top_p = v).is_ok(),
            "min_p" => value.parse().map(|v| sampling.min_p = v).is_ok(),
            "seed" => value.parse().map(|v| sampling.seed = v).is_ok(),
            "repeat_penalty" => value.parse().map(|v| sampling.repeat_penalty = v).is_ok(),
            "presence_penalty" => value.parse().map(|v| sampling.presence_penalty = v).is_ok(),
            "frequency_penalty" => value.parse().map(|v| sampling.frequency_penalty = v).is_ok(),
            "n" => value.parse::<i64>().map(|n| self.options.max_tokens = usize::try_from(n).ok()).is_ok(),
            _ => false,
        };
        if !known {
            self.note(&format!("cannot set {name:?} to {value:?}; /help shows what can be set"));
        } else if let Err(error) = self.session.set_sampling(sampling) {
            self.note(&error.to_string());
        }
        Ok(())
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
        let (tokens, first, finish) = match outcome {
            Ok(told) => told,
            Err(error) => match error.downcast::<peregrine::Error>() {
                // Nothing works without the device.
                Ok(lost @ peregrine::Error::DeviceLost { .. }) => return Err(lost.into()),
                Ok(error) => {
                    self.note(&format!("error: {error}"));
                    return Ok(());
                }
                Err(other) => return Err(other),
            },
        };
        if self.session.was_read_again() {
            self.note("the conversation was read again from its start: its earlier turns have changed");
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
