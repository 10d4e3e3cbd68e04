//! The chat loop, on the public API alone: the example and `peregrine chat` are both this.

use peregrine::runtime::{AnswerOptions, Session};
use std::io::{BufRead, IsTerminal, Write};

const HELP: &str = "/clear forgets the conversation, /exit leaves (so does Ctrl-D), /help shows this";

/// Reads lines from stdin and streams answers to stdout, until `/exit` or the end of the input.
/// On a terminal it shows a prompt; in a pipe stdout has the answers alone, each ended by a newline.
pub fn run(session: &mut Session, options: &AnswerOptions) -> anyhow::Result<()> {
    let (stdin, mut stdout) = (std::io::stdin(), std::io::stdout());
    let interactive = stdin.is_terminal() && stdout.is_terminal();
    if interactive {
        eprintln!("{HELP}");
    }
    let mut line = String::new();
    loop {
        if interactive {
            write!(stdout, "> ")?;
            stdout.flush()?;
        }
        line.clear();
        if stdin.lock().read_line(&mut line)? == 0 {
            if interactive {
                writeln!(stdout)?;
            }
            return Ok(());
        }
        match line.trim() {
            "" => {}
            "/exit" | "/bye" | "/quit" => return Ok(()),
            "/clear" => session.clear()?,
            "/help" | "/?" => eprintln!("{HELP}"),
            command if command.starts_with('/') => eprintln!("unknown command {command}; {HELP}"),
            text => {
                for piece in session.send(text, options)? {
                    write!(stdout, "{}", piece?)?;
                    stdout.flush()?;
                }
                writeln!(stdout)?;
            }
        }
    }
}
