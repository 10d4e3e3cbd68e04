//! Slash commands.

use super::input::file_name;
use super::screen::{note, printable};
use super::{Next, Repl, preview, settings};

/// The argument of a command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    Text,
    File,
    Branch,
    Setting,
    OnOff,
}

/// All commands, in completion order.
pub const COMMANDS: &[(&str, Takes)] = &[
    ("/help", Takes::Nothing),
    ("/exit", Takes::Nothing),
    ("/quit", Takes::Nothing),
    ("/bye", Takes::Nothing),
    ("/clear", Takes::Nothing),
    ("/undo", Takes::Text),
    ("/regen", Takes::Nothing),
    ("/continue", Takes::Nothing),
    ("/fork", Takes::Text),
    ("/switch", Takes::Branch),
    ("/save", Takes::File),
    ("/load", Takes::File),
    ("/system", Takes::Text),
    ("/set", Takes::Setting),
    ("/stats", Takes::OnOff),
    ("/read", Takes::File),
    ("/tokens", Takes::Nothing),
    ("/device", Takes::Nothing),
];

const HELP: &str = "\
/clear           start over with the same system prompt and a new seed
/undo [N]        remove the last message and its answer, or the last N
/regen           answer the last message again, with another seed
/continue        resume an answer that was cut off
/fork NAME       continue in a copy of the conversation, named NAME
/switch [NAME]   go to another conversation; without NAME, list them
/save FILE       save the conversation and its state to a file
/load FILE       continue from a saved file; this conversation stays available
/system [TEXT]   set the system prompt; without TEXT, show it
/set [NAME [X]]  show or change a sampling setting: temp, top_k, top_p, min_p,
                 seed, repeat_penalty, presence_penalty, frequency_penalty, n
/stats [on|off]  turn the speed line after each answer on or off; show cache
                 statistics
/read FILE       send the contents of a file as a message
/tokens          show the conversation's tokens and cache statistics
/device          show the adapter and the memory in use
/exit            leave; also /quit, /bye, Ctrl-D, or Ctrl-C twice
\"\"\" starts and ends a message of several lines, or one that starts with /;
\\ at the end of a line continues it on the next; Ctrl-C stops an answer;
Tab completes commands, files, conversations and settings";

impl Repl<'_> {
    pub fn command(&mut self, line: &str) -> anyhow::Result<Next> {
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match command {
            "/exit" | "/quit" | "/bye" => return Ok(Next::Leave),
            "/help" | "/?" => note(HELP),
            "/clear" => self.clear()?,
            "/undo" => self.undo(rest)?,
            "/regen" => {
                if self.session.sampling().temperature > 0.0 {
                    self.next_seed()?;
                } else {
                    note("the temperature is 0: the answer will be the same (/set temp 0.8)");
                }
                self.answer(|session, options| session.retry(options))?;
            }
            "/continue" => self.answer(|session, options| session.resume(options))?,
            "/fork" => {
                let forked = self.branches.fork(self.session, rest);
                self.report_text(forked)?;
            }
            "/switch" if rest.is_empty() => note(&self.branches.list(self.session)),
            "/switch" => {
                let switched = self.branches.switch(self.session, rest);
                self.report_text(switched)?;
            }
            "/save" | "/load" | "/read" if rest.is_empty() => {
                note(&format!("missing file name: {command} FILE"));
            }
            "/save" => {
                let saved = self.session.snapshot().and_then(|snapshot| snapshot.save(file_name(rest)));
                let (tokens, messages) = (self.session.position(), self.session.messages().len());
                self.report_text(
                    saved.map(|()| format!("saved {messages} messages, {tokens} tokens, to {}", printable(rest))),
                )?;
            }
            "/load" => {
                let loaded = self.branches.load(self.session, &file_name(rest));
                self.report_text(loaded)?;
            }
            "/system" if rest.is_empty() => note(self.system().unwrap_or("no system prompt is set")),
            "/system" => self.session.system(rest),
            "/set" => self.set(rest)?,
            "/stats" => self.stats(rest),
            "/read" => self.read(rest)?,
            "/tokens" => {
                let (tokens, messages) = (self.session.position(), self.session.messages().len());
                note(&format!("{messages} messages, {tokens} tokens"));
                note(&self.cache_stats());
            }
            "/device" => {
                let gpu = self.session.engine().gpu();
                note(&format!("{}, {:.1} MB in use", gpu.info(), gpu.allocated_bytes() as f64 / 1e6));
            }
            other => note(&unknown(other)),
        }
        Ok(Next::Line)
    }

    fn clear(&mut self) -> anyhow::Result<()> {
        let system = self.system().map(str::to_owned);
        self.session.clear()?;
        if let Some(system) = system {
            self.session.system(&system);
        }
        // With the same seed the new conversation could repeat the old one.
        self.next_seed()
    }

    fn next_seed(&mut self) -> anyhow::Result<()> {
        let mut sampling = self.session.sampling().clone();
        sampling.seed = sampling.seed.wrapping_add(1);
        Ok(self.session.set_sampling(sampling)?)
    }

    fn undo(&mut self, rest: &str) -> anyhow::Result<()> {
        let count = match rest {
            "" => 1,
            _ => match rest.parse::<usize>() {
                Ok(count) if count > 0 => count,
                _ => {
                    note(&format!("\"{}\" is not a number of messages; example: /undo 2", printable(rest)));
                    return Ok(());
                }
            },
        };
        for at in 0..count {
            match self.session.undo() {
                Err(peregrine::Error::NothingToUndo) if at > 0 => {
                    note("nothing more to undo");
                    break;
                }
                undone => match self.report(undone.map_err(Into::into))? {
                    Some(message) => note(&format!("removed \"{}\"", preview(&message.content))),
                    None => break,
                },
            }
        }
        Ok(())
    }

    fn set(&mut self, rest: &str) -> anyhow::Result<()> {
        let (mut sampling, mut options) = (self.session.sampling().clone(), self.options.clone());
        if rest.is_empty() {
            note(&settings::shown(&sampling, &options));
            return Ok(());
        }
        match settings::change(rest, &mut sampling, &mut options) {
            Ok(None) => {
                let set = self.session.set_sampling(sampling);
                if self.report(set.map_err(Into::into))?.is_some() {
                    self.options = options;
                }
            }
            Ok(Some(said)) | Err(said) => note(&said),
        }
        Ok(())
    }

    fn stats(&mut self, rest: &str) {
        self.stats = match rest {
            "" => !self.stats,
            "on" => true,
            "off" => false,
            other => {
                return note(&format!("\"{}\" is neither on nor off: use /stats on or /stats off", printable(other)));
            }
        };
        note(if self.stats { "speed line on" } else { "speed line off" });
        if self.stats || rest.is_empty() {
            note(&self.cache_stats());
        }
    }

    fn read(&mut self, rest: &str) -> anyhow::Result<()> {
        match std::fs::read_to_string(file_name(rest)) {
            Ok(text) if text.trim().is_empty() => note(&format!("{} is empty: nothing sent", printable(rest))),
            Ok(text) => self.answer(|session, options| session.send(text.trim_end(), options))?,
            Err(error) => note(&format!("cannot read {}: {error}", printable(rest))),
        }
        Ok(())
    }

    /// Prints the text of an outcome, or its error.
    fn report_text(&self, outcome: peregrine::Result<String>) -> anyhow::Result<()> {
        let said = self.report(outcome.map_err(Into::into))?;
        said.iter().for_each(|text| note(text));
        Ok(())
    }

    /// Statistics of the state store and the prefix cache.
    fn cache_stats(&self) -> String {
        let engine = self.session.engine();
        let (states, prefix) = (engine.state_stats(), engine.prefix_stats());
        let held = |held: peregrine::runtime::Held| format!("{} ({:.1} MB)", held.states, held.bytes as f64 / 1e6);
        format!(
            "states: {} on the device, {} in host memory, {} on disk, {} dropped\n\
             prefix cache: {} states ({:.1} MB), {} hits, {} misses, {} tokens saved",
            held(states.device),
            held(states.host),
            held(states.disk),
            states.dropped,
            prefix.states,
            prefix.bytes as f64 / 1e6,
            prefix.hits,
            prefix.misses,
            prefix.tokens_saved,
        )
    }

    fn system(&self) -> Option<&str> {
        self.session.messages().iter().find(|m| m.role == "system").map(|m| m.content.as_str())
    }
}

/// The message for an unknown command, with the most similar one.
fn unknown(command: &str) -> String {
    let names = COMMANDS.iter().map(|(name, _)| *name);
    let meant = nearest(command, names).map_or_else(String::new, |name| format!(", did you mean {name}?"));
    let command = printable(command);
    format!(
        "unknown command {command}{meant}; /help lists the commands; start a message with \"\"\" if it begins with /"
    )
}

/// The name that `word` most likely means: one that it is a prefix of, or one within an edit distance of 1 or 2.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let near = names.map(|name| (if name.starts_with(&word) { 1 } else { edit_distance(&word, name) }, name));
    let most = if word.len() > 4 { 2 } else { 1 };
    near.filter(|(slips, _)| *slips <= most).min_by_key(|(slips, _)| *slips).map(|(_, name)| name)
}

/// The Damerau-Levenshtein distance (optimal string alignment) of two words.
fn edit_distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = vec![];
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut next = vec![i];
        for j in 1..=to.len() {
            let change = usize::from(from[i - 1] != to[j - 1]);
            let mut least = (row[j] + 1).min(next[j - 1] + 1).min(row[j - 1] + change);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, HELP, nearest};

    #[test]
    fn misspelled_commands_are_recognized() {
        let near = |word| nearest(word, COMMANDS.iter().map(|(name, _)| *name));
        for (word, meant) in [
            ("/qiut", "/quit"),
            ("/undo2", "/undo"),
            ("/Stats", "/stats"),
            ("/cont", "/continue"),
            ("/swich", "/switch"),
            ("/sytsem", "/system"),
        ] {
            assert_eq!(near(word), Some(meant), "{word}");
        }
        for word in ["/nonsense", "/usr/bin", "/xyz"] {
            assert_eq!(near(word), None, "{word}");
        }
    }

    #[test]
    fn help_fits_the_screen_and_names_every_command() {
        assert!(HELP.lines().all(|line| line.len() < 80), "{HELP}");
        for (name, _) in COMMANDS {
            assert!(*name == "/help" || HELP.contains(name), "{name}");
        }
    }
}
