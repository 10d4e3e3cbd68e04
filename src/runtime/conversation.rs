//! A conversation without its recurrent state, as sessions, marks, forks and snapshots copy it.

use crate::kernels::select::WINDOW;
use crate::text::{Matching, Message};

/// Messages, their text and what the recurrent state has consumed of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Conversation {
    pub(super) messages: Vec<Message>,
    /// The rendered messages, as far as the state has consumed them.
    pub(super) text: String,
    /// Ids of all tokens consumed, if kept; incomplete if there are fewer than `position`.
    pub(super) ids: Option<Vec<u32>>,
    /// The last tokens consumed, for penalties: at least as many as those look at.
    pub(super) recent: Vec<u32>,
    /// Tokens consumed, not counting an answer in progress.
    pub(super) position: u64,
    /// Bytes of a character that the last answer was cut off in.
    pub(super) unfinished: Vec<u8>,
    /// How far the answer that is given or was cut off has come in its grammar, if it has one.
    pub(super) matching: Option<Matching>,
    /// Whether the last answer ended by itself, so that there is nothing to resume.
    pub(super) ended: bool,
}

/// A point in a [`Conversation`] that has only grown since: enough to truncate it to that point.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) messages: usize,
    /// Bytes of the text.
    text: usize,
    recent: Vec<u32>,
    pub(super) position: u64,
    unfinished: Vec<u8>,
    matching: Option<Matching>,
    ended: bool,
}

impl Conversation {
    /// Counts `count` consumed tokens, of which `ids` are the last.
    pub(super) fn consume(&mut self, ids: &[u32], count: usize) {
        self.position += count as u64;
        self.ids.iter_mut().for_each(|all| all.extend(ids));
        self.recent.extend(&ids[ids.len().saturating_sub(WINDOW)..]);
        if self.recent.len() > 2 * WINDOW {
            self.recent.drain(..self.recent.len() - WINDOW);
        }
    }

    /// The last tokens consumed, as many as penalties can look at.
    pub(super) fn recent(&self) -> &[u32] {
        &self.recent[self.recent.len().saturating_sub(WINDOW)..]
    }

    /// The ids of all tokens consumed, if complete.
    pub(super) fn all_ids(&self) -> Option<&[u32]> {
        self.ids.as_deref().filter(|ids| ids.len() as u64 == self.position)
    }

    /// A copy with only the recent tokens that penalties can look at, with ids only if they are complete, and without a place in a
    /// grammar, which is no more than this process knows.
    pub(super) fn trimmed(&self) -> Self {
        Conversation {
            messages: self.messages.clone(),
            text: self.text.clone(),
            ids: self.all_ids().map(<[u32]>::to_vec),
            recent: self.recent().to_vec(),
            position: self.position,
            unfinished: self.unfinished.clone(),
            matching: None,
            ended: self.ended,
        }
    }

    /// Forgets what was consumed; the messages stay.
    pub(super) fn forget_consumed(&mut self) {
        self.text.clear();
        self.ids.iter_mut().for_each(Vec::clear);
        self.recent.clear();
        self.position = 0;
        self.unfinished.clear();
        self.matching = None;
        self.ended = false;
    }

    /// The current point.
    pub(super) fn point(&self) -> Point {
        Point {
            messages: self.messages.len(),
            text: self.text.len(),
            recent: self.recent().to_vec(),
            position: self.position,
            unfinished: self.unfinished.clone(),
            matching: self.matching.clone(),
            ended: self.ended,
        }
    }

    /// Whether it is at this point.
    pub(super) fn is_at(&self, point: &Point) -> bool {
        (point.messages, point.position, point.text) == (self.messages.len(), self.position, self.text.len())
    }

    /// Truncates everything but the messages to a point.
    pub(super) fn rewind_consumed(&mut self, point: &Point) {
        self.text.truncate(point.text);
        if let Some(ids) = &mut self.ids {
            ids.truncate(usize::try_from(point.position).unwrap_or(usize::MAX));
        }
        self.recent.clone_from(&point.recent);
        self.position = point.position;
        self.unfinished.clone_from(&point.unfinished);
        self.matching.clone_from(&point.matching);
        self.ended = point.ended;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_goes_back_to_a_point_of_it() {
        let mut conversation = Conversation { ids: Some(vec![]), ..Default::default() };
        conversation.text.push_str("first");
        conversation.consume(&[1, 2, 3], 3);
        conversation.unfinished = vec![0xe2];
        let (then, point) = (conversation.clone(), conversation.point());
        assert!(conversation.is_at(&point));
        conversation.text.push_str(" second");
        conversation.consume(&[4, 5], 2);
        (conversation.unfinished, conversation.ended) = (vec![], true);
        assert!(!conversation.is_at(&point));
        conversation.rewind_consumed(&point);
        assert_eq!(conversation, then);
    }

    #[test]
    fn ids_are_all_or_none() {
        let mut conversation = Conversation { ids: Some(vec![]), ..Default::default() };
        conversation.consume(&[1, 2], 2);
        assert_eq!(conversation.all_ids(), Some(&[1, 2][..]));
        // The first of five were not kept.
        conversation.consume(&[6, 7], 5);
        assert_eq!((conversation.position, conversation.all_ids()), (7, None));
        assert_eq!(conversation.trimmed().ids, None);
    }

    #[test]
    fn recent_tokens_are_as_many_as_penalties_look_at() {
        let mut conversation = Conversation::default();
        let ids: Vec<u32> = (0..5 * WINDOW as u32 + 7).collect();
        for some in ids.chunks(1000) {
            conversation.consume(some, some.len());
            assert!(conversation.recent.len() <= 3 * WINDOW);
        }
        assert_eq!(conversation.recent(), &ids[ids.len() - WINDOW..]);
    }
}
