//! A radix tree: values keyed by sequences of token ids, which share their common prefixes.

use std::collections::BTreeMap;

/// A radix tree. Each node but the root has a value or at least two children, so that its size is that of what it holds.
pub(super) struct Tree<T> {
    /// Nodes in use, with free places between them.
    nodes: Vec<Node<T>>,
    free: Vec<usize>,
    ids: usize,
}

struct Node<T> {
    parent: usize,
    /// Ids from the parent to this node.
    edge: Vec<u32>,
    /// Children by the first id of their edge.
    children: BTreeMap<u32, usize>,
    value: Option<T>,
}

const ROOT: usize = 0;

impl<T> Node<T> {
    fn new(parent: usize, edge: Vec<u32>) -> Self {
        Node { parent, edge, children: BTreeMap::new(), value: None }
    }
}

/// Where a walk along some ids ended.
struct Walk {
    /// The last node reached.
    node: usize,
    /// Ids from the root to it.
    depth: usize,
    /// The child in whose edge the walk ended, and how many ids of that edge matched.
    within: Option<(usize, usize)>,
}

impl<T> Tree<T> {
    pub(super) fn new() -> Self {
        Tree { nodes: vec![Node::new(ROOT, vec![])], free: vec![], ids: 0 }
    }

    /// Ids held, shared ones counted once.
    pub(super) fn ids(&self) -> usize {
        self.ids
    }

    /// The values.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.nodes.iter().filter_map(|node| node.value.as_ref())
    }

    /// Walks along `ids` as far as they match; `at` sees each node.
    fn walk(&self, ids: &[u32], mut at: impl FnMut(usize, usize)) -> Walk {
        let mut walk = Walk { node: ROOT, depth: 0, within: None };
        loop {
            at(walk.node, walk.depth);
            let rest = &ids[walk.depth..];
            let Some(child) = rest.first().and_then(|id| self.nodes[walk.node].children.get(id)) else { return walk };
            let edge = &self.nodes[*child].edge;
            let common = edge.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if common < edge.len() {
                return Walk { within: Some((*child, common)), ..walk };
            }
            walk = Walk { node: *child, depth: walk.depth + common, within: None };
        }
    }

    /// Length of the longest prefix of `ids` that some sequence shares.
    pub(super) fn shared(&self, ids: &[u32]) -> usize {
        let walk = self.walk(ids, |_, _| {});
        walk.depth + walk.within.map_or(0, |(_, common)| common)
    }

    /// The longest sequence that is a prefix of `ids` and whose value `fits`: its length and value.
    pub(super) fn longest(&mut self, ids: &[u32], fits: impl Fn(usize, &T) -> bool) -> Option<(usize, &mut T)> {
        let mut best = None;
        self.walk(ids, |node, depth| {
            if self.nodes[node].value.as_ref().is_some_and(|value| fits(depth, value)) {
                best = Some((depth, node));
            }
        });
        let (depth, node) = best?;
        self.nodes[node].value.as_mut().map(|value| (depth, value))
    }

    /// The value at exactly these ids.
    pub(super) fn get(&mut self, ids: &[u32]) -> Option<&mut T> {
        let walk = self.walk(ids, |_, _| {});
        if walk.depth == ids.len() { self.nodes[walk.node].value.as_mut() } else { None }
    }

    /// Inserts a value; returns the one that was there.
    pub(super) fn insert(&mut self, ids: &[u32], value: T) -> Option<T> {
        let Walk { mut node, mut depth, within } = self.walk(ids, |_, _| {});
        if let Some((child, common)) = within {
            node = self.split(child, common);
            depth += common;
        }
        if depth < ids.len() {
            let leaf = Node::new(node, ids[depth..].to_vec());
            self.ids += leaf.edge.len();
            let leaf = self.place(leaf);
            self.nodes[node].children.insert(ids[depth], leaf);
            node = leaf;
        }
        self.nodes[node].value.replace(value)
    }

    /// Splits a node's edge after `at` ids; returns the new node.
    fn split(&mut self, node: usize, at: usize) -> usize {
        let parent = self.nodes[node].parent;
        let rest = self.nodes[node].edge.split_off(at);
        let edge = std::mem::replace(&mut self.nodes[node].edge, rest);
        let (first, next) = (edge[0], self.nodes[node].edge[0]);
        let middle = self.place(Node { children: BTreeMap::from([(next, node)]), ..Node::new(parent, edge) });
        self.nodes[parent].children.insert(first, middle);
        self.nodes[node].parent = middle;
        middle
    }

    fn place(&mut self, node: Node<T>) -> usize {
        match self.free.pop() {
            Some(at) => {
                self.nodes[at] = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        }
    }

    /// Removes the value with the smallest `key`, and nodes that held nothing else.
    pub(super) fn remove_least<K: Ord>(&mut self, key: impl Fn(&T) -> K) -> Option<T> {
        let keys = self.nodes.iter().enumerate().filter_map(|(at, node)| Some((key(node.value.as_ref()?), at)));
        let (_, node) = keys.min()?;
        self.take(node)
    }

    /// Removes the value at these ids, and nodes that held nothing else.
    pub(super) fn remove(&mut self, ids: &[u32]) -> Option<T> {
        let walk = self.walk(ids, |_, _| {});
        if walk.depth == ids.len() { self.take(walk.node) } else { None }
    }

    fn take(&mut self, mut node: usize) -> Option<T> {
        let value = self.nodes[node].value.take();
        while node != ROOT && self.nodes[node].value.is_none() {
            let parent = self.nodes[node].parent;
            match self.nodes[node].children.pop_first() {
                None => {
                    let edge = self.give_up(node);
                    self.ids -= edge.len();
                    self.nodes[parent].children.remove(&edge[0]);
                }
                Some((_, child)) if self.nodes[node].children.is_empty() => {
                    let mut edge = self.give_up(node);
                    self.nodes[parent].children.insert(edge[0], child);
                    edge.append(&mut self.nodes[child].edge);
                    self.nodes[child].edge = edge;
                    self.nodes[child].parent = parent;
                }
                Some((first, child)) => {
                    self.nodes[node].children.insert(first, child);
                    break;
                }
            }
            node = parent;
        }
        if self.free.len() + 1 == self.nodes.len() {
            self.nodes.truncate(1);
            self.nodes.shrink_to_fit();
            self.free = vec![];
        }
        value
    }

    /// Frees a node; returns its edge.
    fn give_up(&mut self, node: usize) -> Vec<u32> {
        self.free.push(node);
        let gone = std::mem::replace(&mut self.nodes[node], Node::new(ROOT, vec![]));
        gone.edge
    }
}

#[cfg(test)]
mod tests {
    use super::{ROOT, Tree};
    use proptest::prelude::*;

    /// Checks a tree's invariants.
    fn check<T>(tree: &Tree<T>) -> Result<(), TestCaseError> {
        let (mut ids, mut seen, mut open) = (0, 0, vec![ROOT]);
        while let Some(at) = open.pop() {
            let node = &tree.nodes[at];
            seen += 1;
            ids += node.edge.len();
            prop_assert!(at == ROOT || node.value.is_some() || node.children.len() > 1, "a node without a use");
            prop_assert_eq!(at == ROOT, node.edge.is_empty());
            for (first, child) in &node.children {
                prop_assert_eq!(*first, tree.nodes[*child].edge[0]);
                prop_assert_eq!(tree.nodes[*child].parent, at);
                open.push(*child);
            }
        }
        prop_assert_eq!(ids, tree.ids());
        prop_assert_eq!(seen + tree.free.len(), tree.nodes.len());
        prop_assert!(tree.free.iter().all(|at| tree.nodes[*at].edge.capacity() == 0), "what was removed keeps memory");
        prop_assert!(seen <= 2 * tree.values().count() + 1);
        Ok(())
    }

    fn common(a: &[u32], b: &[u32]) -> usize {
        a.iter().zip(b).take_while(|(a, b)| a == b).count()
    }

    #[derive(Debug, Clone)]
    enum Act {
        Insert(Vec<u32>),
        Remove(Vec<u32>),
        RemoveOneOf(usize),
        RemoveLeast,
    }

    fn ids() -> impl Strategy<Value = Vec<u32>> {
        // Few ids in short runs make shared prefixes and split edges.
        prop::collection::vec((0..3u32, 1..4usize), 0..5)
            .prop_map(|runs| runs.into_iter().flat_map(|(id, count)| std::iter::repeat_n(id, count)).collect())
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            4 => ids().prop_map(Act::Insert),
            1 => ids().prop_map(Act::Remove),
            1 => any::<usize>().prop_map(Act::RemoveOneOf),
            1 => Just(Act::RemoveLeast),
        ];
        prop::collection::vec(act, 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

        #[test]
        fn a_tree_is_a_list_of_sequences(acts in acts(), asked in prop::collection::vec(ids(), 8)) {
            let mut tree = Tree::new();
            let mut list: Vec<(Vec<u32>, usize)> = vec![];
            let out = |list: &mut Vec<(Vec<u32>, usize)>, ids: &[u32]| {
                list.iter().position(|(have, _)| have == ids).map(|at| list.swap_remove(at).1)
            };
            for (count, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Insert(ids) => {
                        prop_assert_eq!(tree.insert(&ids, count), out(&mut list, &ids));
                        list.push((ids, count));
                    }
                    Act::Remove(ids) => prop_assert_eq!(tree.remove(&ids), out(&mut list, &ids)),
                    Act::RemoveOneOf(_) if list.is_empty() => {}
                    Act::RemoveOneOf(at) => {
                        let ids = list[at % list.len()].0.clone();
                        prop_assert_eq!(tree.remove(&ids), out(&mut list, &ids));
                    }
                    Act::RemoveLeast => {
                        let oldest = list.iter().min_by_key(|(_, value)| *value).map(|(ids, _)| ids.clone());
                        let least = tree.remove_least(|value| *value);
                        prop_assert_eq!(least, oldest.and_then(|ids| out(&mut list, &ids)));
                    }
                }
                check(&tree)?;
                prop_assert_eq!(tree.values().count(), list.len());
            }
            for ids in asked {
                let begins: Vec<_> = list.iter().filter(|(have, _)| ids.starts_with(have)).collect();
                let longest = begins.iter().max_by_key(|(have, _)| have.len()).map(|(have, v)| (have.len(), *v));
                prop_assert_eq!(tree.longest(&ids, |_, _| true).map(|(length, value)| (length, *value)), longest);
                let even = begins.iter().filter(|(_, v)| v % 2 == 0).max_by_key(|(have, _)| have.len());
                let even = even.map(|(have, v)| (have.len(), *v));
                prop_assert_eq!(tree.longest(&ids, |_, v| v % 2 == 0).map(|(length, value)| (length, *value)), even);
                prop_assert_eq!(tree.shared(&ids), list.iter().map(|(have, _)| common(have, &ids)).max().unwrap_or(0));
                let exact = list.iter().find(|(have, _)| *have == ids).map(|(_, value)| *value);
                prop_assert_eq!(tree.get(&ids).copied(), exact);
            }
        }
    }
}
