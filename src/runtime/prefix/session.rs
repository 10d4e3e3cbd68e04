//! How sessions use the prefix cache: what they start from, and after which tokens they offer their state to it.

use super::{PrefixBudget, PrefixStats};
use crate::error::{Error, Result};
use crate::runtime::departures::Prefix;
use crate::runtime::engine::Engine;
use crate::runtime::session::Session;
use crate::runtime::states::KeptState;
use std::sync::Arc;

/// Between two states that are kept while a text is read lies at least this part of what comes before them: a text of any
/// length has few of them, and what is shared with another is found but for this part.
const SPACING: usize = 16;

/// What the prefix cache knows a session's state by: the ids that it has consumed, where they are known.
#[derive(Clone, Default)]
pub(in crate::runtime) struct PrefixKey {
    /// All of them from the first on; `None`: nobody wants to know, or they are too many.
    ids: Option<Vec<u32>>,
    /// How many there were before the first that was chosen instead of read.
    read: Option<usize>,
}

impl PrefixKey {
    fn start() -> Self {
        PrefixKey { ids: Some(vec![]), read: None }
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
    /// Sets what the prefix cache may hold; there is none until this is called. A session whose text begins as an earlier one's
    /// did, with the same system prompt or document, then starts from the state after that prefix.
    pub fn set_prefix_cache(&self, budget: PrefixBudget) {
        self.prefixes().set_budget(budget);
    }

    /// What the prefix cache holds and has saved.
    pub fn prefix_stats(&self) -> PrefixStats {
        self.prefixes().stats()
    }
}

impl Session {
    /// Feeds tokens, from the state of the longest prefix that is cached, and offers states on the way.
    pub(in crate::runtime) async fn read(&mut self, ids: &[u32]) -> Result<()> {
        let most = self.engine.prefixes().most_ids();
        let vocab = self.engine.checkpoint().config().vocab;
        if most == 0 || ids.is_empty() || ids.iter().any(|id| *id as usize >= vocab) {
            self.history.prefix = PrefixKey::default();
            return self.feed_all(ids).await;
        }
        let mut fed = 0;
        if self.position() == 0 {
            self.history.prefix = PrefixKey::start();
            fed = self.start_from_prefix(ids).await?;
        }
        for cut in self.cuts(ids, fed) {
            let before = self.position();
            let outcome = self.feed_all(&ids[fed..cut]).await;
            let consumed = usize::try_from(self.position() - before).unwrap_or(usize::MAX);
            self.history.prefix.read(&ids[fed..fed + consumed], most);
            outcome?;
            fed = cut;
            if cut < ids.len() {
                self.offer_prefix().await?;
            }
        }
        Ok(())
    }

    /// Starts from the state of the longest prefix of `ids` that is cached; gives its length.
    async fn start_from_prefix(&mut self, ids: &[u32]) -> Result<usize> {
        loop {
            let found = self.engine.prefixes().find(ids);
            let Some((length, state)) = found else { break };
            let mut stepper = self.schedule().await?;
            let forward = stepper.at_rest().await?;
            let restored = self.engine.states().restore(forward, self.slot, length as u64, &state).await;
            drop(stepper);
            match restored {
                Ok(()) => {
                    self.conversation.consume(&ids[..length], length);
                    self.backup.read(&ids[..length]);
                    self.history.prefix.ids = Some(ids[..length].to_vec());
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
        if let Some((known, _)) = self.history.prefix.known(self.position()) {
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
    fn prefix_is_wanted(&self) -> bool {
        let mut prefixes = self.engine.prefixes();
        match self.history.prefix.known(self.position()) {
            Some((ids, read)) => prefixes.wants(read) && !ids.is_empty() && !prefixes.has(ids, read),
            None => false,
        }
    }

    /// Offers the state after what was consumed to the cache, for sessions whose text begins so.
    pub(in crate::runtime) fn offer_prefix_state(&self, state: &KeptState) {
        if self.prefix_is_wanted()
            && self.engine.states().has(state)
            && let Some((ids, read)) = self.history.prefix.known(self.position())
        {
            self.engine.prefixes().insert(ids, state.clone(), read);
        }
    }

    /// The same, where the state was not kept for something else.
    pub(in crate::runtime) async fn offer_prefix(&self) -> Result<()> {
        if self.prefix_is_wanted() {
            let state = self.keep().await?;
            self.offer_prefix_state(&state);
        }
        Ok(())
    }

    /// What a session that ends offers.
    pub(in crate::runtime) fn prefix_to_offer(&self) -> Option<Arc<Prefix>> {
        let (ids, read) = self.history.prefix.known(self.position()).filter(|_| self.prefix_is_wanted())?;
        Some(Arc::new(Prefix { ids: ids.to_vec(), read }))
    }
}

#[cfg(test)]
mod tests {
    use super::PrefixKey;

    #[test]
    fn a_trail_is_known_as_long_as_nothing_of_it_is_missing() {
        let mut key = PrefixKey::start();
        key.read(&[1, 2, 3], 8);
        assert_eq!(key.known(3), Some((&[1, 2, 3][..], true)));
        assert_eq!(key.known(4), None, "something else was consumed");
        key.chose(&[4, 5], 2);
        key.read(&[6], 8);
        assert_eq!(key.known(6), Some((&[1, 2, 3, 4, 5, 6][..], false)));
        key.truncate(3);
        assert_eq!(key.known(3), Some((&[1, 2, 3][..], true)), "what was chosen is taken back");
        let mut long = key.clone();
        // Of an answer the first tokens are not remembered: later ones stand in other places.
        key.chose(&[7, 8], 5);
        key.read(&[9, 9, 9], 8);
        key.truncate(8);
        assert_eq!(key.known(8), None);
        long.read(&[4, 5, 6, 7, 8], 8);
        assert!(long.known(8).is_some());
        long.read(&[9], 8);
        assert_eq!(long.known(9), None, "too many");
    }
}
