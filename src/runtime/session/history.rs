//! Undo, marks and forks: moments of a session with their states.

use super::Session;
use crate::error::{Error, Result};
use crate::model::Forward;
use crate::runtime::backup::{Backup, WeakBackup};
use crate::runtime::conversation::{Conversation, Point};
use crate::runtime::prefix::PrefixKey;
use crate::runtime::states::KeptState;
use crate::text::Message;
use std::sync::Arc;

/// A moment of a session, to go back to any number of times with [`Session::back_to`]. Clones share its state; dropping the last
/// one frees it.
///
/// ```no_run
/// # fn f(session: &mut peregrine::Session) -> peregrine::Result<()> {
/// let mark = session.mark()?;
/// session.send("And then?", &Default::default())?.for_each(drop);
/// session.back_to(&mark)?; // the question was never asked
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Mark {
    moment: Arc<Moment>,
    conversation: Conversation,
    history: History,
}

impl Mark {
    /// The conversation up to then.
    pub fn messages(&self) -> &[Message] {
        &self.conversation.messages
    }

    /// Tokens consumed by then.
    pub fn position(&self) -> u64 {
        self.conversation.position
    }
}

/// A point in a conversation, with the slot's state.
pub(super) struct Moment {
    point: Point,
    /// `None` before the first token.
    state: Option<KeptState>,
    backup: WeakBackup,
}

/// A session before a call that may fail.
pub(super) struct Before {
    mark: Mark,
    backup: Backup,
}

/// The moments that a session can go back to.
#[derive(Clone, Default)]
pub(super) struct History {
    /// Before each message and after it was read, oldest first.
    moments: Vec<Arc<Moment>>,
    /// Whether the conversation must be read again because its state is no longer kept.
    pub(super) lost: bool,
    /// The key of the current state in the prefix cache.
    pub(super) prefix: PrefixKey,
}

impl History {
    /// Forgets the moments.
    pub(super) fn clear(&mut self) {
        self.moments.clear();
    }
}

impl Session {
    /// The current moment, for [`Session::back_to_async`].
    pub async fn mark_async(&self) -> Result<Mark> {
        let moment = self.moment().await?;
        Ok(Mark { moment, conversation: self.conversation.clone(), history: self.history.clone() })
    }

    /// Goes back to a moment of this session, or to one of another session of the engine. The sampling parameters stay.
    ///
    /// If the moment's state is no longer kept, the next message has the conversation read again; without messages that is
    /// [`Error::StateNotKept`], and the session is as before.
    pub async fn back_to_async(&mut self, mark: &Mark) -> Result<()> {
        match self.put_back(&mark.moment).await {
            Ok(()) => {
                self.history = mark.history.clone();
                self.conversation = mark.conversation.clone();
            }
            Err(Error::StateNotKept { .. }) if !mark.messages().is_empty() => {
                self.lose();
                self.conversation.messages.clone_from(&mark.conversation.messages);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// A copy of this session in a free slot. The two are independent.
    pub async fn fork_async(&self) -> Result<Session> {
        let mut other = self.engine.session_async(self.sampling().clone()).await?;
        if self.position() > 0 {
            let mut scheduler = self.schedule().await?;
            copy(scheduler.at_rest().await?, Slots { from: self.slot, to: other.slot }, self.position()).await?;
        }
        other.conversation = self.conversation.clone();
        other.history = self.history.clone();
        other.backup = self.backup.clone();
        Ok(other)
    }

    /// Removes the user's last message and its answer; returns the message. Nothing is read, unless the state before it is no
    /// longer kept: then the next message has the conversation read again.
    pub async fn undo_async(&mut self) -> Result<Message> {
        let last = self.messages().iter().rposition(|message| message.role == "user").ok_or(Error::NothingToUndo)?;
        self.go_back(last).await?;
        let mut gone = self.conversation.messages.split_off(last);
        Ok(gone.swap_remove(0))
    }

    /// Restores the state after the first `messages` messages; the list of messages stays.
    pub(super) async fn go_back(&mut self, messages: usize) -> Result<()> {
        let found = self.history.moments.iter().rposition(|moment| moment.point.messages == messages);
        let Some(at) = found else {
            self.lose();
            return Ok(());
        };
        let moment = self.history.moments[at].clone();
        match self.put_back(&moment).await {
            Ok(()) => {
                self.conversation.rewind_consumed(&moment.point);
                self.history.moments.truncate(at + 1);
                self.history.prefix.truncate(moment.point.position);
                Ok(())
            }
            Err(Error::StateNotKept { .. }) => {
                self.lose();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The state is no longer kept: the conversation will be read again.
    fn lose(&mut self) {
        self.forget();
        self.history.lost = true;
    }

    /// Restores the slot's state at a moment; the caller sets the conversation.
    async fn put_back(&mut self, moment: &Moment) -> Result<()> {
        let position = moment.point.position;
        let mut scheduler = self.schedule().await?;
        let states = self.engine.states();
        let again = moment.state.as_ref().filter(|state| states.was_lost(state)).and_then(|_| moment.backup.upgrade());
        let mut put = match (&again, &moment.state) {
            (Some(backup), _) => backup.put_into(&mut scheduler, self.slot, position).await,
            (None, Some(state)) => states.restore(scheduler.at_rest().await?, self.slot, position, state).await,
            (None, None) => scheduler.reset(self.slot).await,
        };
        let mut backup = moment.backup.upgrade();
        if put.is_ok() && backup.is_none() {
            match Backup::of(&mut scheduler, self.slot, position).await {
                Ok(read) => backup = Some(read),
                Err(error) => put = Err(error),
            }
        }
        drop(scheduler);
        put.inspect_err(|_| self.doubt())?;
        self.backup = backup.expect("it was read back where it was not kept");
        Ok(())
    }

    /// The current moment; one that the history already has is not kept twice.
    async fn moment(&self) -> Result<Arc<Moment>> {
        if let Some(last) = self.history.moments.last()
            && self.conversation.is_at(&last.point)
            && last.state.as_ref().is_none_or(|state| self.engine.states().has(state))
        {
            return Ok(last.clone());
        }
        let state = match self.position() {
            0 => None,
            _ => Some(self.keep().await?),
        };
        Ok(Arc::new(Moment { point: self.conversation.point(), state, backup: self.backup.downgrade() }))
    }

    /// Keeps the slot's current state.
    pub(super) async fn keep(&self) -> Result<KeptState> {
        let mut scheduler = self.schedule().await?;
        self.engine.states().keep(scheduler.at_rest().await?, self.slot).await
    }

    /// Adds the current moment to the history.
    pub(super) async fn remember(&mut self) -> Result<()> {
        if self.history.lost {
            return Ok(());
        }
        let moment = self.moment().await?;
        let states = self.engine.states();
        self.history.moments.retain(|earlier| {
            earlier.point.messages < moment.point.messages
                && earlier.state.as_ref().is_none_or(|state| states.has(state))
        });
        if let Some(state) = &moment.state {
            self.offer_prefix_state(state);
        }
        self.history.moments.push(moment);
        Ok(())
    }

    /// The current moment, to return to if a call fails.
    pub(super) async fn before(&self) -> Result<Before> {
        Ok(Before { mark: self.mark_async().await?, backup: self.backup.clone() })
    }

    /// Puts the session back after a call failed. If that fails too, as on a lost device, the state is recomputed from the backup
    /// when the slot is used next.
    pub(super) async fn return_to(&mut self, Before { mark, backup }: Before) {
        if self.put_back(&mark.moment).await.is_err() {
            self.backup = backup;
            self.doubt();
        }
        self.conversation = mark.conversation;
        self.history = mark.history;
    }
}

/// A copy from one slot to another.
struct Slots {
    from: usize,
    to: usize,
}

/// Copies one slot's state to another.
async fn copy(forward: &mut Forward, slots: Slots, position: u64) -> Result<()> {
    match forward.saved() {
        Ok(saved) => {
            forward.save(slots.from, 0, &saved)?;
            forward.restore(slots.to, position, &saved)
        }
        Err(Error::OutOfMemory { .. }) => {
            let state = forward.read_state(slots.from, 0).await?;
            forward.write_state(slots.to, position, &state)
        }
        Err(error) => Err(error),
    }
}
