//! How sessions use the prefix cache: the state that they start from, and the states that they offer.

use super::Session;
use crate::error::{Error, Result};
use crate::runtime::engine::Prefix;
use crate::runtime::prefix::PrefixKey;
use crate::runtime::states::KeptState;
use std::sync::Arc;

/// While a text is read, states are offered at distances of at least 1/16 of the text before them: few states at any length, and
/// at most 1/16 of a shared prefix is read again.
const SPACING: usize = 16;

impl Session {
    /// Feeds tokens, starting from the longest cached prefix, and offers states on the way.
    pub(super) async fn read(&mut self, ids: &[u32]) -> Result<()> {
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

    /// Starts from the longest cached prefix of `ids`; returns its length.
    async fn start_from_prefix(&mut self, ids: &[u32]) -> Result<usize> {
        loop {
            let found = self.engine.prefixes().find(ids);
            let Some((length, state)) = found else { break };
            let mut scheduler = self.schedule().await?;
            let forward = scheduler.at_rest().await?;
            let restored = self.engine.states().restore(forward, self.slot, length as u64, &state).await;
            drop(scheduler);
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

    /// Where to offer a state while reading `ids`, of which `fed` are done: at the distances of [`SPACING`], where an earlier text
    /// diverges, and at the end.
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

    /// Whether the cache wants the current state.
    fn prefix_is_wanted(&self) -> bool {
        let mut prefixes = self.engine.prefixes();
        match self.history.prefix.known(self.position()) {
            Some((ids, read)) => prefixes.wants(read) && !ids.is_empty() && !prefixes.has(ids, read),
            None => false,
        }
    }

    /// Offers the current state, already kept, to the cache.
    pub(super) fn offer_prefix_state(&self, state: &KeptState) {
        if self.prefix_is_wanted()
            && self.engine.states().has(state)
            && let Some((ids, read)) = self.history.prefix.known(self.position())
        {
            self.engine.prefixes().insert(ids, state.clone(), read);
        }
    }

    /// Keeps the current state and offers it to the cache, if wanted.
    pub(super) async fn offer_prefix(&self) -> Result<()> {
        if self.prefix_is_wanted() {
            let state = self.keep().await?;
            self.offer_prefix_state(&state);
        }
        Ok(())
    }

    /// The key of the state that a session offers when it ends, if wanted.
    pub(super) fn prefix_to_offer(&self) -> Option<Arc<Prefix>> {
        let (ids, read) = self.history.prefix.known(self.position()).filter(|_| self.prefix_is_wanted())?;
        Some(Arc::new(Prefix { ids: ids.to_vec(), read }))
    }
}
