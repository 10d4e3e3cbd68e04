//! The prefix cache: states after prefixes of texts that were read. A session whose text has such a prefix starts from its state.

mod key;
mod tree;

use super::states::{KeptState, StateStore};
pub(super) use key::PrefixKey;
use tree::Tree;

/// Budget of the prefix cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixBudget {
    /// Bytes of states and ids, in whatever tier the engine's [`StateBudget`](super::StateBudget) puts them. 0: no cache.
    pub bytes: u64,
    /// Which states it holds.
    pub reuse: Reuse,
}

/// Which states a session may start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// States after text that prefill read. With one scan segment, what follows has the same bits as if the session had read
    /// the whole text; with several, it differs by their rounding.
    Read,
    /// Also states after generated answers. What follows may differ by the rounding between decode and prefill.
    Answers,
}

impl PrefixBudget {
    /// No cache.
    pub const NONE: PrefixBudget = PrefixBudget { bytes: 0, reuse: Reuse::Read };
}

/// Contents and hit counts of the prefix cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrefixStats {
    /// Prefixes with a state.
    pub states: usize,
    /// Bytes of the states and of all ids.
    pub bytes: u64,
    /// Texts that started from a cached state.
    pub hits: u64,
    /// Texts read from their first token.
    pub misses: u64,
    /// Prompt tokens that hits saved.
    pub tokens_saved: u64,
    /// Prefixes evicted for lack of room.
    pub evicted: u64,
}

/// A prefix's state.
struct Entry {
    state: KeptState,
    /// Whether prefill read all of it.
    read: bool,
    used: u64,
}

/// Kept states indexed by the ids that they have consumed.
pub(super) struct PrefixCache {
    states: StateStore,
    /// Tokens of a chunk.
    pub(super) chunk: usize,
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

    /// Whether the budget admits a state; `read`: prefill read all of its tokens.
    pub(super) fn wants(&self, read: bool) -> bool {
        self.budget.bytes > 0 && (read || self.budget.reuse == Reuse::Answers)
    }

    pub(super) fn set_budget(&mut self, budget: PrefixBudget) {
        self.budget = budget;
        self.fit();
    }

    pub(super) fn stats(&self) -> PrefixStats {
        PrefixStats { states: self.tree.values().count(), bytes: self.bytes(), ..self.stats }
    }

    fn bytes(&self) -> u64 {
        self.tree.values().count() as u64 * self.states.state_bytes() + self.id_bytes()
    }

    fn id_bytes(&self) -> u64 {
        (self.tree.ids() * size_of::<u32>()) as u64
    }

    /// Longest text whose ids are tracked: a quarter of the budget. 0: no cache.
    pub(super) fn most_ids(&self) -> usize {
        usize::try_from(self.budget.bytes / 4 / size_of::<u32>() as u64).unwrap_or(usize::MAX)
    }

    /// The longest cached prefix of `ids`: its length and state.
    pub(super) fn find(&mut self, ids: &[u32]) -> Option<(usize, KeptState)> {
        self.clock += 1;
        let (states, reuse) = (&self.states, self.budget.reuse);
        let fits = |entry: &Entry| (entry.read || reuse == Reuse::Answers) && states.has(&entry.state);
        let (length, entry) = self.tree.longest(ids, |_, entry| fits(entry))?;
        entry.used = self.clock;
        Some((length, entry.state.clone()))
    }

    /// Counts a hit that saved tokens, or a miss.
    pub(super) fn count(&mut self, saved: usize) {
        match saved {
            0 => self.stats.misses += 1,
            _ => self.stats.hits += 1,
        }
        self.stats.tokens_saved += saved as u64;
    }

    /// Length of the longest prefix that an earlier text shares. Where two texts diverge, others may too: a state there is worth
    /// keeping.
    pub(super) fn shared(&self, ids: &[u32]) -> usize {
        self.tree.shared(ids)
    }

    /// Whether there is a usable state at exactly these ids.
    pub(super) fn has(&mut self, ids: &[u32], read: bool) -> bool {
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

    /// Removes a prefix whose state is gone.
    pub(super) fn remove(&mut self, ids: &[u32]) {
        self.tree.remove(ids);
    }

    fn fit(&mut self) {
        while self.bytes() > self.budget.bytes && self.tree.remove_least(|entry| entry.used).is_some() {
            self.stats.evicted += 1;
        }
    }
}
