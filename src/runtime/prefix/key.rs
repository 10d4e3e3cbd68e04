//! What the prefix cache knows a session's state by.

/// The key of a session's state in the prefix cache: the ids that it has consumed, if known.
#[derive(Clone, Default)]
pub(in crate::runtime) struct PrefixKey {
    /// All of them; `None`: there is no cache, or they are too many.
    pub(in crate::runtime) ids: Option<Vec<u32>>,
    /// Number of ids before the first generated one; `None`: all were read.
    read: Option<usize>,
}

impl PrefixKey {
    pub(in crate::runtime) fn start() -> Self {
        PrefixKey { ids: Some(vec![]), read: None }
    }

    /// Keeps the first `position` ids.
    pub(in crate::runtime) fn truncate(&mut self, position: u64) {
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        self.ids.take_if(|ids| ids.len() < position);
        if let Some(ids) = &mut self.ids {
            ids.truncate(position);
        }
        self.read.take_if(|read| *read >= position);
    }

    /// Appends `count` generated tokens, of which `chosen` are the last.
    pub(in crate::runtime) fn chose(&mut self, chosen: &[u32], count: usize) {
        self.ids.take_if(|_| chosen.len() < count);
        if let (Some(ids), false) = (&mut self.ids, chosen.is_empty()) {
            self.read.get_or_insert(ids.len());
            ids.extend(chosen);
        }
    }

    /// Appends tokens that prefill read; drops all ids beyond `most`.
    pub(in crate::runtime) fn read(&mut self, read: &[u32], most: usize) {
        if let Some(ids) = &mut self.ids {
            ids.extend(read);
        }
        self.ids.take_if(|ids| ids.len() > most);
    }

    /// The ids, and whether prefill read all of them; `None` if not all are known.
    pub(in crate::runtime) fn known(&self, position: u64) -> Option<(&[u32], bool)> {
        let ids = self.ids.as_deref().filter(|ids| ids.len() as u64 == position)?;
        Some((ids, self.read.is_none()))
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
        // The first tokens of a long answer are not known, so the positions of the others are not either.
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
