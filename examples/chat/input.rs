//! User input: single lines, and several lines in `"""` or after a trailing `\`; with history and completion on a terminal.

use super::completion::LineHelper;
use super::last_chat::state_folder;
use rustyline::completion::unescape;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Editor, ExternalPrinter};
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

/// The result of reading input.
pub enum Typed {
    /// A message or a command.
    Line(String),
    /// A message between `"""`, which is never a command.
    Quoted(String),
    /// Ctrl-C at the prompt; `empty` if the line was empty.
    Interrupted { empty: bool },
    /// Ctrl-D, or the end of a pipe.
    End,
}

/// A terminal with line editing, or a pipe.
pub struct Input {
    editor: Option<Editor<LineHelper, FileHistory>>,
    /// While a printer exists, rustyline also wakes up for signals that arrive in other threads.
    _printer: Option<Box<dyn ExternalPrinter>>,
    history: Option<PathBuf>,
}

impl Input {
    /// Whether stdin and stdout are terminals.
    pub fn is_interactive() -> bool {
        std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
    }

    /// Opens the terminal with its history, or plain stdin.
    pub fn new() -> anyhow::Result<Self> {
        if !Self::is_interactive() {
            return Ok(Input { editor: None, _printer: None, history: None });
        }
        let mut editor = Editor::new()?;
        editor.set_helper(Some(LineHelper::new()));
        let printer = editor.create_external_printer().ok();
        let _printer = printer.map(|printer| Box::new(printer) as Box<dyn ExternalPrinter>);
        let history = history_file();
        if let Some(path) = &history {
            // On the first start there is no history.
            let _ = editor.load_history(path);
        }
        Ok(Input { editor: Some(editor), _printer, history })
    }

    /// Sets the conversation names to complete.
    pub fn complete_branches(&mut self, names: Vec<String>) {
        if let Some(helper) = self.editor.as_mut().and_then(Editor::helper_mut) {
            helper.branches = names;
        }
    }

    /// The next message or command, however many lines it takes.
    pub fn read(&mut self) -> anyhow::Result<Typed> {
        let mut text = String::new();
        let mut quoted = false;
        loop {
            let begun = !text.is_empty() || quoted;
            let line = match self.line(if begun { ". " } else { "> " })? {
                Typed::Line(line) | Typed::Quoted(line) => line,
                // Ctrl-C discards an unfinished message.
                Typed::Interrupted { empty } => return Ok(Typed::Interrupted { empty: empty && !begun }),
                Typed::End => return Ok(Typed::End),
            };
            if !begun && line.trim_start().starts_with("\"\"\"") {
                let first = line.trim_start().trim_start_matches("\"\"\"");
                if let Some(whole) = first.trim_end().strip_suffix("\"\"\"") {
                    self.remember(whole);
                    return Ok(Typed::Quoted(whole.to_owned()));
                }
                quoted = true;
                text += first;
            } else if quoted {
                text.push('\n');
                if let Some(last) = line.trim_end().strip_suffix("\"\"\"") {
                    text += last;
                    let whole = text.trim_matches('\n');
                    self.remember(whole);
                    return Ok(Typed::Quoted(whole.to_owned()));
                }
                text += &line;
            } else if let Some(begun) = line.strip_suffix('\\') {
                text += begun;
                text.push('\n');
            } else {
                text += &line;
                self.remember(&text);
                return Ok(Typed::Line(text));
            }
        }
    }

    /// Asks a question; the answer does not go into the history.
    pub fn ask(&mut self, question: &str) -> anyhow::Result<Typed> {
        self.line(&format!("{question} "))
    }

    fn line(&mut self, prompt: &str) -> anyhow::Result<Typed> {
        let Some(editor) = &mut self.editor else {
            let mut line = String::new();
            if std::io::stdin().lock().read_line(&mut line)? == 0 {
                return Ok(Typed::End);
            }
            return Ok(Typed::Line(line.trim_end_matches(['\n', '\r']).to_owned()));
        };
        let read = editor.readline(prompt);
        let empty = !editor.helper().is_some_and(|helper| helper.typed.take());
        match read {
            Ok(line) => Ok(Typed::Line(line)),
            Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => Ok(Typed::Interrupted { empty }),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(error.into()),
        }
    }

    fn remember(&mut self, text: &str) {
        if let Some(editor) = &mut self.editor
            && !text.trim().is_empty()
        {
            // Continue if the history cannot be saved.
            let _ = editor.add_history_entry(text);
            if let Some(path) = &self.history {
                let _ = editor.save_history(path);
            }
        }
    }
}

/// The path that a typed file name means: completion escapes spaces with a backslash, as shells do.
pub fn file_name(typed: &str) -> PathBuf {
    unescape(typed, if cfg!(windows) { None } else { Some('\\') }).into_owned().into()
}

/// `PEREGRINE_HISTORY`, or a file in the user's state folder.
fn history_file() -> Option<PathBuf> {
    let set = std::env::var_os("PEREGRINE_HISTORY").filter(|value| !value.is_empty());
    set.map(PathBuf::from).or_else(|| Some(state_folder()?.join("history")))
}
