//! The output file of a batch: answers are appended, and existing ones tell which requests to skip.

use super::line::Line;
use peregrine::{Error, Result};
use same_file::Handle;
use serde_json::Value;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub struct Journal {
    path: PathBuf,
    /// The destination; `None` until the file is created.
    to: Option<Output>,
    /// Bytes of complete lines. Anything after them is a truncated line of an earlier run.
    whole: u64,
    /// Whether the last answer lacks its newline.
    open_end: bool,
    /// custom_ids of the answered requests.
    answered: HashSet<String>,
    /// Numbers of input lines without a usable custom_id that have an error reply.
    rejected: HashSet<u64>,
    lines: usize,
}

/// The destination of answers.
enum Output {
    File(File),
    Stdout,
}

/// What to do with an existing output file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OldAnswers {
    /// Keep its answers and append the missing ones.
    Keep,
    /// Discard its contents, whatever they are.
    Replace,
}

impl Journal {
    /// Reads existing answers without changing the file; [`Journal::start`] does that. A file with other contents is an error
    /// unless it is to be replaced, and so is the input file under any name. `-` is stdout, which has no earlier answers.
    pub fn open(path: &Path, input: &Path, old: OldAnswers) -> Result<Self> {
        let refuse = |problem: String| Error::BadOutput { path: path.to_owned(), problem };
        let fail = |problem| Error::Io { doing: "write", path: path.to_owned(), problem };
        let (answered, rejected) = Default::default();
        let mut journal =
            Journal { path: path.to_owned(), to: None, whole: 0, open_end: false, answered, rejected, lines: 0 };
        if path.as_os_str() == "-" {
            journal.to = Some(Output::Stdout);
            return Ok(journal);
        }
        let file = match File::options().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
                return if dir.is_dir() { Ok(journal) } else { Err(fail(e)) };
            }
            Err(e) => return Err(fail(e)),
        };
        if !file.metadata().map_err(fail)?.is_file() {
            return Err(refuse("it is not a regular file".to_owned()));
        }
        let output = Handle::from_file(file.try_clone().map_err(fail)?);
        let input = if input.as_os_str() == "-" { Handle::stdin() } else { Handle::from_path(input) };
        if matches!((output, input), (Ok(output), Ok(input)) if output == input) {
            return Err(refuse("it is the input file; name another file".to_owned()));
        }
        journal.lock(&file)?;
        if old == OldAnswers::Keep {
            journal.read(&file)?;
        }
        journal.to = Some(Output::File(file));
        Ok(journal)
    }

    /// Locks the file: two programs on one file would answer every request twice.
    fn lock(&self, file: &File) -> Result<()> {
        let problem = "another program is adding answers to it".to_owned();
        file.try_lock().map_err(|_| Error::BadOutput { path: self.path.clone(), problem })
    }

    fn read(&mut self, file: &File) -> Result<()> {
        let mut reader = BufReader::new(file);
        let mut text = Vec::new();
        let fail = |problem| Error::Io { doing: "read", path: self.path.clone(), problem };
        while reader.read_until(b'\n', &mut text).map_err(fail)? > 0 {
            let answer: Value = serde_json::from_slice(&text).unwrap_or_default();
            let is_answer = answer.get("response").is_some();
            match (answer["custom_id"].as_str(), answer["error"]["line"].as_u64()) {
                (_, Some(line)) if is_answer => drop(self.rejected.insert(line)),
                (Some(id), None) if is_answer => drop(self.answered.insert(id.to_owned())),
                _ if begins_an_answer(&text) => return Ok(()),
                _ => {
                    let problem = format!(
                        "it exists, and its line {} is not an answer of a batch; name another file, or overwrite it with --force",
                        self.lines + 1
                    );
                    return Err(Error::BadOutput { path: self.path.clone(), problem });
                }
            }
            self.lines += 1;
            self.whole += text.len() as u64;
            self.open_end = !text.ends_with(b"\n");
            text.clear();
        }
        Ok(())
    }

    /// Creates the file if it does not exist, and removes a truncated last line, as a killed program leaves it.
    pub fn start(&mut self) -> Result<()> {
        let fail = |problem| Error::Io { doing: "write", path: self.path.clone(), problem };
        let mut file = match self.to.take() {
            Some(Output::Stdout) => {
                self.to = Some(Output::Stdout);
                return Ok(());
            }
            Some(Output::File(file)) => file,
            None => {
                // Fails if another program has created the file since `open`.
                let file = File::options().write(true).create_new(true).open(&self.path).map_err(fail)?;
                self.lock(&file)?;
                file
            }
        };
        file.set_len(self.whole).map_err(fail)?;
        file.seek(SeekFrom::End(0)).map_err(fail)?;
        if self.open_end {
            file.write_all(b"\n").map_err(fail)?;
        }
        self.to = Some(Output::File(file));
        Ok(())
    }

    /// Number of answers in the file.
    pub fn len(&self) -> usize {
        self.lines
    }

    /// Whether an earlier run has answered this input line.
    pub fn has(&self, line: &Line) -> bool {
        match &line.custom_id {
            Some(id) if !line.is_rejected_by_number() => self.answered.contains(id),
            _ => self.rejected.contains(&(line.number as u64)),
        }
    }

    /// Appends an answer.
    pub fn write(&mut self, answer: &Value) -> anyhow::Result<()> {
        self.lines += 1;
        let line = format!("{answer}\n");
        match self.to.as_mut().expect("start() was called") {
            Output::File(file) => {
                let fail = |problem| Error::Io { doing: "write", path: self.path.clone(), problem };
                file.write_all(line.as_bytes()).map_err(fail)?;
            }
            Output::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(line.as_bytes())?;
                stdout.flush()?;
            }
        }
        Ok(())
    }
}

/// Whether a line without a newline is a truncated line of [`Journal::write`]: `{"id":"batch_req_7","custom_id":` and so on.
fn begins_an_answer(text: &[u8]) -> bool {
    let follows = |text: &[u8], wanted: &[u8]| text.iter().zip(wanted).all(|(a, b)| a == b);
    let head = br#"{"id":"batch_req_"#;
    let Some(rest) = text.get(head.len()..) else { return follows(text, head) };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let numbered = digits > 0 || rest.is_empty();
    !text.ends_with(b"\n") && follows(text, head) && numbered && follows(&rest[digits..], br#"","custom_id":"#)
}
