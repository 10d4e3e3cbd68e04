//! The prefix cache: states at the beginnings of texts that were read. A session whose text begins alike starts from there.

mod session;
mod tree;

use super::states::{KeptState, StateStore};
pub(super) use session::PrefixKey;
use tree::Tree;

/// What the prefix cache may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixBudget {
    /// Bytes of states and ids, wherever the engine's [`StateBudget`](super::StateBudget) has them lie. 0: no cache.
    pub bytes: u64,
    /// Which states do.
    pub reuse: Reuse,
}

/// Which states a session may start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Those of texts that were read: what follows has the same bits as if the session had read it all, where the scan runs in
    /// one segment; in several, it is the same but for their rounding.
    Read,
    /// Those of answers too, whose tokens were consumed one by one: what follows may differ by the rounding between that and
    /// reading them in one go.
    Answers,
}

impl PrefixBudget {
    /// No cache.
    pub const NONE: PrefixBudget = PrefixBudget { bytes: 0, reuse: Reuse::Read };
}

/// What the prefix cache holds and has saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrefixStats {
    /// Prefixes with a state.
    pub states: usize,
    /// Bytes of the states and of all ids.
    pub bytes: u64,
    /// Texts that started from a state.
    pub hits: u64,
    /// Texts that were read from their first token on.
    pub misses: u64,
    /// Tokens that were not read for that.
    pub tokens_saved: u64,
    /// Prefixes that were evicted for want of room.
    pub evicted: u64,
}

/// A prefix's state.
struct Entry {
    state: KeptState,
    /// All of it was read, none of it chosen.
    read: bool,
    used: u64,
}

/// An index of states by the ids that they have consumed.
pub(super) struct PrefixCache {
    states: StateStore,
    /// Tokens of a chunk.
    chunk: usize,
    budget: PrefixBudget,
    tree: Tree<Entry>,
    clock: u64,
    stats: PrefixStats,
}

impl PrefixCache {
    pub(super) fn new(states: StateStore, chunk: usize) -> Self {
        let (budget, stats) = (PrefixBudget::NONE, PrefixStats::default());
        PrefixCache { states, chunk, budget, tree: Tree::new(), clock: 0, stats }
    }

    /// Whether it takes a state, all of whose tokens were read or not.
    fn wants(&self, read: bool) -> bool {
        self.budget.bytes > 0 && (read || self.budget.reuse == Reuse::Answers)
    }

    fn set_budget(&mut self, budget: PrefixBudget) {
        self.budget = budget;
        self.fit();
    }

    fn stats(&self) -> PrefixStats {
        PrefixStats { states: self.tree.values().count(), bytes: self.bytes(), ..self.stats }
    }

    fn bytes(&self) -> u64 {
        self.tree.values().count() as u64 * self.states.state_bytes() + self.id_bytes()
    }

    fn id_bytes(&self) -> u64 {
        (self.tree.ids() * size_of::<u32>()) as u64
    }

    /// Ids of a text that are remembered at most: they take a quarter of the cache's memory. 0: there is no cache.
    fn most_ids(&self) -> usize {
        usize::try_from(self.budget.bytes / 4 / size_of::<u32>() as u64).unwrap_or(usize::MAX)
    }

    /// The state of the longest prefix of `ids`, and its length.
    fn find(&mut self, ids: &[u32]) -> Option<(usize, KeptState)> {
        self.clock += 1;
        let (states, reuse) = (&self.states, self.budget.reuse);
        let fits = |entry: &Entry| (entry.read || reuse == Reuse::Answers) && states.has(&entry.state);
        let (length, entry) = self.tree.longest(ids, |_, entry| fits(entry))?;
        entry.used = self.clock;
        Some((length, entry.state.clone()))
    }

    /// Counts a text that was started from its first `saved` tokens, or read whole.
    fn count(&mut self, saved: usize) {
        match saved {
            0 => self.stats.misses += 1,
            _ => self.stats.hits += 1,
        }
        self.stats.tokens_saved += saved as u64;
    }

    /// How many of the first ids an earlier text has too. Where texts part once, they may do so again: a state is worth keeping
    /// there.
    fn shared(&self, ids: &[u32]) -> usize {
        self.tree.shared(ids)
    }

    /// Whether there is a state at exactly these ids that serves.
    fn has(&mut self, ids: &[u32], read: bool) -> bool {
        self.clock += 1;
        let Some(entry) = self.tree.get(ids) else { return false };
        entry.used = self.clock;
        (entry.read || !read) && self.states.has(&entry.state)
    }

    /// Keeps the state after `ids`.
    pub(super) fn insert(&mut self, ids: &[u32], state: KeptState, read: bool) {
        if self.states.state_bytes() + size_of_val(ids) as u64 > self.budget.bytes {
            return;
        }
        self.clock += 1;
        self.tree.insert(ids, Entry { state, read, used: self.clock });
        self.fit();
    }

    /// Forgets a prefix whose state turned out not to be there.
    fn remove(&mut self, ids: &[u32]) {
        self.tree.remove(ids);
    }

    fn fit(&mut self) {
        while self.bytes() > self.budget.bytes && self.tree.remove_least(|entry| entry.used).is_some() {
            self.stats.evicted += 1;
        }
    }
}
