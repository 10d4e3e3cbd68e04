//! How sessions use the cache: what they start from, and where on their way they leave states behind.

use super::{PrefixBudget, PrefixStats};
use crate::error::{Error, Result};
use crate::runtime::engine::Engine;
use crate::runtime::session::Session;
use crate::runtime::states::Kept;

/// Between two states that are kept while a text is read lies at least this part of what comes before them: a text of any
/// length has few of them, and what is shared with another is found but for this part.
const SPACING: usize = 16;

/// The ids that led to a session's state, where they are known.
#[derive(Clone, Default)]
pub(in crate::runtime) struct Trail {
    /// All of them from the first on; `None`: nobody wants to know, or they are too many.
    ids: Option<Vec<u32>>,
    /// How many there were before the first that was chosen instead of read.
    read: Option<usize>,
}

impl Trail {
    fn start() -> Self {
        Trail { ids: Some(vec![]), read: None }
    }

    /// Goes back to the first `position` ids.
    pub(in crate::runtime) fn truncate(&mut self, position: u64) {
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        self.ids.take_if(|ids| ids.len() < position);
        if let Some(ids) = &mut self.ids {
            ids.truncate(position);
        }
        self.read.take_if(|read| *read >= position);
    }

    /// So many tokens that were chosen have been consumed; `chosen` are the last of them.
    pub(in crate::runtime) fn chose(&mut self, chosen: &[u32], count: usize) {
        self.ids.take_if(|_| chosen.len() < count);
        if let (Some(ids), false) = (&mut self.ids, chosen.is_empty()) {
            self.read.get_or_insert(ids.len());
            ids.extend(chosen);
        }
    }

    /// Ids have been read; of more than `most` none are remembered.
    fn read(&mut self, read: &[u32], most: usize) {
        if let Some(ids) = &mut self.ids {
            ids.extend(read);
        }
        self.ids.take_if(|ids| ids.len() > most);
    }

    /// The ids, and whether all of them were read.
    fn known(&self, position: u64) -> Option<(&[u32], bool)> {
        let ids = self.ids.as_deref().filter(|ids| ids.len() as u64 == position)?;
        Some((ids, self.read.is_none()))
    }
}

impl Engine {
    /// Sets what the cache of beginnings may hold; there is none until this is called. A session whose text begins as an
    /// earlier one's did, with the same system prompt or document, then starts from the state that was left there.
    pub fn set_prefix_cache(&self, budget: PrefixBudget) {
        self.prefixes().set_budget(budget);
    }

    /// What the cache of beginnings holds and has saved.
    pub fn prefix_stats(&self) -> PrefixStats {
        self.prefixes().stats()
    }
}

impl Session {
    /// Feeds tokens and leaves it at that. A prompt that is cancelled ends with [`Error::Cancelled`]; the chunks that were fed
    /// by then stay fed.
    pub fn feed(&mut self, ids: &[u32]) -> Result<()> {
        self.begin_call();
        self.read(ids)
    }

    /// The same, as a part of a call.
    pub(in crate::runtime) fn read(&mut self, ids: &[u32]) -> Result<()> {
        let most = self.engine.prefixes().most_ids();
        let vocab = self.engine.checkpoint().config().vocab;
        if most == 0 || ids.is_empty() || ids.iter().any(|id| *id as usize >= vocab) {
            self.past.trail = Trail::default();
            return self.feed_all(ids);
        }
        let mut fed = 0;
        if self.position == 0 {
            self.past.trail = Trail::start();
            fed = self.start_from_beginning(ids)?;
        }
        for cut in self.cuts(ids, fed) {
            let before = self.position;
            let outcome = self.feed_all(&ids[fed..cut]);
            let consumed = usize::try_from(self.position - before).unwrap_or(usize::MAX);
            self.past.trail.read(&ids[fed..fed + consumed], most);
            outcome?;
            fed = cut;
            if cut < ids.len() && self.wants_beginning() {
                let state = self.keep()?;
                self.keep_beginning(&state)?;
            }
        }
        Ok(())
    }

    /// Starts from the state of the longest beginning of `ids` that there is; gives its length.
    fn start_from_beginning(&mut self, ids: &[u32]) -> Result<usize> {
        loop {
            let found = self.engine.prefixes().find(ids);
            let Some((length, state)) = found else { break };
            let restored = self.engine.states().restore(self.schedule()?.at_rest()?, self.slot, length as u64, &state);
            match restored {
                Ok(()) => {
                    self.position = length as u64;
                    self.consume(&ids[..length]);
                    self.backup.read(&ids[..length]);
                    self.past.trail.ids = Some(ids[..length].to_vec());
                    self.engine.prefixes().count(length);
                    return Ok(length);
                }
                Err(Error::StateNotKept { .. }) => self.engine.prefixes().remove(&ids[..length]),
                Err(error) => return Err(error),
            }
        }
        self.engine.prefixes().count(0);
        Ok(0)
    }

    /// Where to pause in reading `ids`, of which `fed` have been: now and then, where an earlier text parts from this one, and
    /// at the end.
    fn cuts(&self, ids: &[u32], fed: usize) -> Vec<usize> {
        let mut cuts = vec![];
        if fed == ids.len() {
            return cuts;
        }
        if let Some((known, _)) = self.past.trail.known(self.position) {
            let first = known.len() - fed;
            let prefixes = self.engine.prefixes();
            let chunk = prefixes.chunk;
            let mut at = known.len();
            loop {
                at += chunk.max(at / SPACING / chunk * chunk);
                if at >= first + ids.len() {
                    break;
                }
                cuts.push(at - first);
            }
            let whole = [&known[..first], ids].concat();
            let parting = prefixes.shared(&whole);
            if parting > known.len() && parting < whole.len() {
                cuts.push(parting - first);
                cuts.sort_unstable();
                cuts.dedup();
            }
        }
        cuts.push(ids.len());
        cuts
    }

    /// Whether a state after what was consumed is worth keeping.
    fn wants_beginning(&self) -> bool {
        let mut prefixes = self.engine.prefixes();
        match self.past.trail.known(self.position) {
            Some((ids, read)) => prefixes.wants(read) && !ids.is_empty() && !prefixes.has(ids, read),
            None => false,
        }
    }

    /// Leaves the state after what was consumed to sessions whose text begins so.
    pub(in crate::runtime) fn keep_beginning(&self, state: &Kept) -> Result<()> {
        if self.wants_beginning()
            && self.engine.states().has(state)
            && let Some((ids, read)) = self.past.trail.known(self.position)
        {
            self.engine.prefixes().insert(ids, state.clone(), read);
        }
        Ok(())
    }

    /// The same, where the state was not kept for something else.
    pub(in crate::runtime) fn leave_beginning(&self) -> Result<()> {
        if self.wants_beginning() { self.keep_beginning(&self.keep()?) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Trail;

    #[test]
    fn a_trail_is_known_as_long_as_nothing_of_it_is_missing() {
        let mut trail = Trail::start();
        trail.read(&[1, 2, 3], 8);
        assert_eq!(trail.known(3), Some((&[1, 2, 3][..], true)));
        assert_eq!(trail.known(4), None, "something else was consumed");
        trail.chose(&[4, 5], 2);
        trail.read(&[6], 8);
        assert_eq!(trail.known(6), Some((&[1, 2, 3, 4, 5, 6][..], false)));
        trail.truncate(3);
        assert_eq!(trail.known(3), Some((&[1, 2, 3][..], true)), "what was chosen is taken back");
        let mut long = trail.clone();
        // Of an answer the first tokens are not remembered: later ones stand in other places.
        trail.chose(&[7, 8], 5);
        trail.read(&[9, 9, 9], 8);
        trail.truncate(8);
        assert_eq!(trail.known(8), None);
        long.read(&[4, 5, 6, 7, 8], 8);
        assert!(long.known(8).is_some());
        long.read(&[9], 8);
        assert_eq!(long.known(9), None, "too many");
    }
}
