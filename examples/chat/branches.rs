//! Several conversations in one slot: the inactive ones are parked as marks.

use super::screen::printable;
use peregrine::Result;
use peregrine::runtime::{Mark, Session, Snapshot};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// The conversations by name: the active one and the parked ones.
pub struct Branches {
    here: String,
    parked: BTreeMap<String, Mark>,
}

impl Default for Branches {
    fn default() -> Self {
        Branches { here: "main".to_owned(), parked: BTreeMap::new() }
    }
}

impl Branches {
    /// The names of the parked conversations.
    pub fn parked(&self) -> Vec<String> {
        self.parked.keys().cloned().collect()
    }

    /// The names of all conversations.
    pub fn names(&self) -> Vec<String> {
        self.parked.keys().chain([&self.here]).cloned().collect()
    }

    /// Parks the conversation and continues with a copy under a new name; gives a message for the user.
    pub fn fork(&mut self, session: &Session, name: &str) -> Result<String> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Ok("a conversation needs a name of one word: /fork NAME".to_owned());
        }
        if name == self.here || self.parked.contains_key(name) {
            return Ok(format!("conversation {name} already exists; /switch {name} goes there"));
        }
        let mark = session.mark()?;
        let parked = std::mem::replace(&mut self.here, name.to_owned());
        let said = format!("now in {name}; /switch {parked} goes back");
        self.parked.insert(parked, mark);
        Ok(said)
    }

    /// Parks the conversation and goes to another; gives a message for the user.
    pub fn switch(&mut self, session: &mut Session, name: &str) -> Result<String> {
        if name == self.here {
            return Ok(format!("already in {name}"));
        }
        let Some(there) = self.parked.get(name) else {
            let name = printable(name);
            return Ok(format!("no conversation {name}; /switch lists them, /fork {name} creates it"));
        };
        let mark = session.mark()?;
        session.back_to(there)?;
        self.parked.remove(name);
        let parked = std::mem::replace(&mut self.here, name.to_owned());
        self.parked.insert(parked, mark);
        Ok(format!("now in {name}: {}", size(session.messages().len(), session.position())))
    }

    /// Loads a saved conversation and parks the current one unless it is empty; gives a message for the user.
    pub fn load(&mut self, session: &mut Session, file: &Path) -> Result<String> {
        let snapshot = Snapshot::open(file)?;
        let mark = session.mark()?;
        let warnings = session.restore(&snapshot)?;
        let (messages, tokens) = (session.messages().len(), session.position());
        let mut said = format!("loaded {}", size(messages, tokens));
        if mark.position() > 0 || !mark.messages().is_empty() {
            let name = self.free_name(file);
            let parked = std::mem::replace(&mut self.here, name);
            let _ = write!(said, ": now in {}; /switch {parked} goes back", self.here);
            self.parked.insert(parked, mark);
        }
        for warning in warnings {
            let _ = write!(said, "\nwarning: {warning}");
        }
        Ok(said)
    }

    /// An unused conversation name derived from a file's name.
    fn free_name(&self, file: &Path) -> String {
        let stem = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .replace(|c: char| c.is_whitespace() || c.is_control(), "-");
        let names = std::iter::once(stem.clone()).chain((2..).map(|n| format!("{stem}-{n}")));
        let mut free = names.filter(|name| *name != self.here && !self.parked.contains_key(name));
        free.next().unwrap_or(stem)
    }

    /// A list of all conversations; a star marks the active one.
    pub fn list(&self, session: &Session) -> String {
        let here = (self.here.as_str(), session.messages().len(), session.position());
        let parked = self.parked.iter().map(|(name, mark)| (name.as_str(), mark.messages().len(), mark.position()));
        let mut all: Vec<_> = parked.chain([here]).collect();
        all.sort_unstable();
        let mut list = String::new();
        for (name, messages, tokens) in all {
            let star = if name == self.here { '*' } else { ' ' };
            let _ = writeln!(list, "{star} {name}: {}", size(messages, tokens));
        }
        list.truncate(list.trim_end().len());
        list
    }
}

fn size(messages: usize, tokens: u64) -> String {
    format!("{messages} messages, {tokens} tokens")
}
