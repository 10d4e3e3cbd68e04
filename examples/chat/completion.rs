//! Tab completion of commands and their arguments.

use super::commands::{COMMANDS, Takes};
use super::settings;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use std::cell::Cell;

/// rustyline's helper.
pub struct LineHelper {
    files: FilenameCompleter,
    /// Conversation names.
    pub branches: Vec<String>,
    /// Whether the line was ever non-empty since this was last reset.
    pub typed: Cell<bool>,
}

impl LineHelper {
    pub fn new() -> Self {
        LineHelper { files: FilenameCompleter::new(), branches: vec![], typed: Cell::new(false) }
    }
}

impl Helper for LineHelper {}
impl Highlighter for LineHelper {}
impl Validator for LineHelper {}

impl Hinter for LineHelper {
    type Hint = String;

    /// Gives no hints; rustyline calls it at every change of the line.
    fn hint(&self, line: &str, _at: usize, _context: &Context<'_>) -> Option<String> {
        self.typed.set(self.typed.get() || !line.is_empty());
        None
    }
}

impl Completer for LineHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let fitting = |from: usize, names: &mut dyn Iterator<Item = &str>| {
            let begun = &line[from..at];
            let pair = |name: &str| Pair { display: name.to_owned(), replacement: name.to_owned() };
            Ok((from, names.filter(|name| name.starts_with(begun)).map(pair).collect()))
        };
        if !line.starts_with('/') {
            return Ok((at, vec![]));
        }
        let Some((command, _)) = line[..at].split_once(' ') else {
            let fitting = COMMANDS.iter().filter(|(name, _)| name.starts_with(&line[..at]));
            // Commands with an argument are completed with a space.
            let space = |takes: Takes| if takes == Takes::Nothing { "" } else { " " };
            let pair = |(name, takes): &(&str, Takes)| Pair {
                display: (*name).to_owned(),
                replacement: format!("{name}{}", space(*takes)),
            };
            return Ok((0, fitting.map(pair).collect()));
        };
        let from = command.len() + 1;
        let takes = COMMANDS.iter().find(|(name, _)| *name == command).map(|(_, takes)| *takes);
        match takes {
            Some(Takes::File) => self.files.complete(line, at, context),
            Some(Takes::Branch) => fitting(from, &mut self.branches.iter().map(String::as_str)),
            Some(Takes::Setting) => fitting(from, &mut settings::NAMES.iter().copied()),
            Some(Takes::OnOff) => fitting(from, &mut ["on", "off"].into_iter()),
            Some(Takes::Nothing | Takes::Text) | None => Ok((at, vec![])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LineHelper;
    use rustyline::completion::Completer;
    use rustyline::history::MemHistory;

    fn completed(helper: &LineHelper, line: &str) -> Vec<String> {
        let history = MemHistory::new();
        let (from, pairs) = helper.complete(line, line.len(), &rustyline::Context::new(&history)).unwrap();
        pairs.into_iter().map(|pair| format!("{}{}", &line[..from], pair.replacement)).collect()
    }

    #[test]
    fn commands_conversations_settings_and_on_off_are_completed() {
        let mut helper = LineHelper::new();
        helper.branches = vec!["main".to_owned(), "maybe".to_owned(), "other".to_owned()];
        assert_eq!(completed(&helper, "/dev"), ["/device"]);
        assert_eq!(completed(&helper, "/st"), ["/stats "]);
        assert_eq!(completed(&helper, "/switch ma"), ["/switch main", "/switch maybe"]);
        assert_eq!(completed(&helper, "/set top"), ["/set top_k", "/set top_p"]);
        assert_eq!(completed(&helper, "/stats o"), ["/stats on", "/stats off"]);
        assert_eq!(completed(&helper, "/read Carg"), ["/read Cargo.lock", "/read Cargo.toml"]);
        for nothing in ["/exit ", "tell me /dev", "", "/set temp 0"] {
            assert_eq!(completed(&helper, nothing), [""; 0], "{nothing:?}");
        }
    }
}
