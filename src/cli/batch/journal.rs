//! The answers of a batch: a file that lines are added to, and that tells which requests have theirs.

use super::request::Line;
use peregrine::{Error, Result};
use serde_json::Value;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub struct Journal {
    path: PathBuf,
    file: File,
    /// By custom_id.
    answered: HashSet<String>,
    /// Lines of the input that have no custom_id.
    refused: HashSet<u64>,
    lines: usize,
}

impl Journal {
    /// Opens the file, or makes it. A last line that was cut off, as a killed program leaves it, is taken away.
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |source| Error::Io { doing: "write", path: path.to_owned(), source };
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        // Two programs that add to one file would answer everything twice.
        file.try_lock().map_err(|_| Error::BadOutput {
            path: path.to_owned(),
            problem: "another program is adding answers to it".to_owned(),
        })?;
        let (mut answered, mut refused, mut lines) = (HashSet::new(), HashSet::new(), 0);
        let mut whole = 0;
        let mut reader = BufReader::new(&file);
        let mut text = Vec::new();
        while reader.read_until(b'\n', &mut text).map_err(fail)? > 0 {
            if text.ends_with(b"\n") {
                whole += text.len() as u64;
                let answer: Value = serde_json::from_slice(&text).unwrap_or_default();
                let is_answer = answer.get("response").is_some();
                match (answer["custom_id"].as_str(), answer["error"]["line"].as_u64()) {
                    (Some(id), _) if is_answer => drop(answered.insert(id.to_owned())),
                    (None, Some(line)) if is_answer => drop(refused.insert(line)),
                    _ => {
                        let problem = format!("it is there, and its line {} is no answer of a batch", lines + 1);
                        return Err(Error::BadOutput { path: path.to_owned(), problem });
                    }
                }
                lines += 1;
            }
            text.clear();
        }
        file.set_len(whole).map_err(fail)?;
        file.seek(SeekFrom::End(0)).map_err(fail)?;
        Ok(Journal { path: path.to_owned(), file, answered, refused, lines })
    }

    /// Lines in it.
    pub fn len(&self) -> usize {
        self.lines
    }

    /// Whether a request was answered before this run.
    pub fn has(&self, line: &Line) -> bool {
        match &line.custom_id {
            Some(id) => self.answered.contains(id),
            None => self.refused.contains(&(line.number as u64)),
        }
    }

    /// Adds an answer.
    pub fn write(&mut self, answer: &Value) -> Result<()> {
        self.lines += 1;
        let line = format!("{answer}\n");
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|source| Error::Io { doing: "write", path: self.path.clone(), source })
    }
}
