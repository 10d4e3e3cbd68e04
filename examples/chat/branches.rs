//! Conversations beside the present one. Each is parked as a mark, so that any number of them share one slot.

use peregrine::Result;
use peregrine::runtime::{Mark, Session};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The conversations by name.
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
    /// Parks the present conversation and goes on with a copy of it under a new name; says what came of it.
    pub fn fork(&mut self, session: &Session, name: &str) -> Result<String> {
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Ok("a conversation needs a name of one word: /fork NAME".to_owned());
        }
        if name == self.here || self.parked.contains_key(name) {
            return Ok(format!("there is a conversation {name} already; /switch {name} goes there"));
        }
        let mark = session.mark()?;
        let parked = std::mem::replace(&mut self.here, name.to_owned());
        let said = format!("this is {name} now; /switch {parked} goes back");
        self.parked.insert(parked, mark);
        Ok(said)
    }

    /// Parks the present conversation and goes to another; says what came of it.
    pub fn switch(&mut self, session: &mut Session, name: &str) -> Result<String> {
        if name == self.here {
            return Ok(format!("this is {name} already"));
        }
        let Some(there) = self.parked.get(name) else {
            return Ok(format!("there is no conversation {name}; /switch lists them, /fork {name} makes one"));
        };
        let mark = session.mark()?;
        session.back_to(there)?;
        self.parked.remove(name);
        let parked = std::mem::replace(&mut self.here, name.to_owned());
        self.parked.insert(parked, mark);
        Ok(format!("this is {name} now: {}", size(session.messages().len(), session.position())))
    }

    /// All conversations, the present one marked.
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
