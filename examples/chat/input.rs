//! What a person types: lines, several lines in `"""` or after a trailing `\`, with history and completion on a terminal.

use rustyline::completion::{Completer, FilenameCompleter, Pair, unescape};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

/// What came of asking for input.
pub enum Typed {
    /// A message or a command.
    Text(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    /// Ctrl-D, or the end of a pipe.
    End,
}

/// The keyboard, or a pipe.
pub struct Input {
    editor: Option<Editor<Words, FileHistory>>,
    history: Option<PathBuf>,
}

/// Commands that take the name of a file.
const WITH_FILE: &[&str] = &["/read ", "/save ", "/load "];

/// Completes commands, and file names after those that take one.
struct Words {
    commands: &'static [&'static str],
    files: FilenameCompleter,
}

impl Helper for Words {}
impl Highlighter for Words {}
impl Validator for Words {}
impl Hinter for Words {
    type Hint = String;
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        if WITH_FILE.iter().any(|command| line.starts_with(command)) {
            return self.files.complete(line, at, context);
        }
        let fitting = self.commands.iter().filter(|command| line.starts_with('/') && command.starts_with(&line[..at]));
        Ok((0, fitting.map(|c| Pair { display: (*c).to_owned(), replacement: (*c).to_owned() }).collect()))
    }
}

impl Input {
    /// Whether a person sits there.
    pub fn is_interactive() -> bool {
        std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
    }

    /// The terminal with its history, or plain lines.
    pub fn new(commands: &'static [&'static str]) -> anyhow::Result<Self> {
        if !Self::is_interactive() {
            return Ok(Input { editor: None, history: None });
        }
        let mut editor = Editor::new()?;
        editor.set_helper(Some(Words { commands, files: FilenameCompleter::new() }));
        let history = history_file();
        if let Some(path) = &history {
            // The first time there is none.
            let _ = editor.load_history(path);
        }
        Ok(Input { editor: Some(editor), history })
    }

    /// The next message or command, however many lines it takes.
    pub fn read(&mut self) -> anyhow::Result<Typed> {
        let mut text = String::new();
        let mut quoted = false;
        loop {
            let line = match self.line(if text.is_empty() && !quoted { "> " } else { ". " })? {
                Typed::Text(line) => line,
                // What was begun is given up.
                other => return Ok(other),
            };
            if !quoted && text.is_empty() && line.trim_start().starts_with("\"\"\"") {
                let first = line.trim_start().trim_start_matches("\"\"\"");
                if let Some(whole) = first.trim_end().strip_suffix("\"\"\"") {
                    return Ok(self.remember(whole.to_owned()));
                }
                quoted = true;
                text += first;
            } else if quoted {
                text.push('\n');
                if let Some(last) = line.trim_end().strip_suffix("\"\"\"") {
                    text += last;
                    return Ok(self.remember(text.trim_matches('\n').to_owned()));
                }
                text += &line;
            } else if let Some(begun) = line.strip_suffix('\\') {
                text += begun;
                text.push('\n');
            } else {
                text += &line;
                return Ok(self.remember(text));
            }
        }
    }

    fn line(&mut self, prompt: &str) -> anyhow::Result<Typed> {
        match &mut self.editor {
            Some(editor) => match editor.readline(prompt) {
                Ok(line) => Ok(Typed::Text(line)),
                Err(ReadlineError::Interrupted) => Ok(Typed::Interrupted),
                Err(ReadlineError::Eof) => Ok(Typed::End),
                Err(error) => Err(error.into()),
            },
            None => {
                let mut line = String::new();
                if std::io::stdin().lock().read_line(&mut line)? == 0 {
                    return Ok(Typed::End);
                }
                Ok(Typed::Text(line.trim_end_matches(['\n', '\r']).to_owned()))
            }
        }
    }

    fn remember(&mut self, text: String) -> Typed {
        if let Some(editor) = &mut self.editor
            && !text.trim().is_empty()
        {
            // A history that cannot be kept is no reason to stop.
            let _ = editor.add_history_entry(&text);
            if let Some(path) = &self.history {
                let _ = editor.save_history(path);
            }
        }
        Typed::Text(text)
    }
}

/// The name of a file as it was typed: completion writes a backslash before a space, as shells do.
pub fn file_name(typed: &str) -> PathBuf {
    unescape(typed, if cfg!(windows) { None } else { Some('\\') }).into_owned().into()
}

/// `PEREGRINE_HISTORY`, or a file where the system keeps such things; its folder is made.
fn history_file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = set("PEREGRINE_HISTORY") {
        return Some(path);
    }
    let folder = set("XDG_STATE_HOME")
        .or_else(|| set("LOCALAPPDATA"))
        .or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    let folder = folder.join("peregrine");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}
