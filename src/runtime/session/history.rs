//! Going back in a conversation, and going on from one moment in several ways.

use super::Session;
use crate::error::{Error, Result};
use crate::model::Forward;
use crate::runtime::backup::{Backup, WeakBackup};
use crate::runtime::conversation::{Conversation, Point};
use crate::runtime::prefix::PrefixKey;
use crate::runtime::states::KeptState;
use crate::text::Message;
use std::sync::Arc;

/// A conversation at a moment, to come back to any number of times: [`Session::back_to`]. Clones share its state; the last of
/// them frees it.
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

/// A point of a conversation with the state that the slot had then.
pub(super) struct Moment {
    point: Point,
    /// `None` before the first token.
    state: Option<KeptState>,
    backup: WeakBackup,
}

/// A session as it was before something that may fail.
pub(super) struct Before {
    mark: Mark,
    backup: Backup,
}

/// What a session can go back to.
#[derive(Clone, Default)]
pub(super) struct History {
    /// Before each message and after it was read, oldest first.
    moments: Vec<Arc<Moment>>,
    /// Whether the conversation must be read again because its state is not kept any more.
    pub(super) lost: bool,
    /// What the prefix cache knows the state by.
    pub(super) prefix: PrefixKey,
}

impl History {
    /// Forgets the moments, but not the ids that were consumed.
    pub(super) fn clear(&mut self) {
        self.moments.clear();
    }
}

impl Session {
    /// This moment, to come back to.
    pub async fn mark_async(&self) -> Result<Mark> {
        let moment = self.moment().await?;
        Ok(Mark { moment, conversation: self.conversation.clone(), history: self.history.clone() })
    }

    /// Makes the session what it was at a moment of it or of another session of the engine. How tokens are chosen stays as it
    /// is.
    ///
    /// Where the state of then is not kept any more, the next message has the conversation read again; without messages
    /// that is [`Error::StateNotKept`], and the session is as before.
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

    /// A session in a free slot that is where this one is. Neither disturbs the other.
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

    /// Takes back the last message of the user and what was answered; gives that message. Nothing is read, unless the state
    /// of then is not kept any more: then the next message has the conversation read again.
    pub async fn undo_async(&mut self) -> Result<Message> {
        let last = self.messages().iter().rposition(|message| message.role == "user").ok_or(Error::NothingToUndo)?;
        self.go_back(last).await?;
        let mut gone = self.conversation.messages.split_off(last);
        Ok(gone.swap_remove(0))
    }

    /// Brings the state to where the first `messages` of the messages had been read, and no more; the messages stay.
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

    /// The state is not kept any more: the conversation will be read again.
    fn lose(&mut self) {
        self.forget();
        self.history.lost = true;
    }

    /// Makes the slot's state that of a moment; what the session knows of it is the caller's to set.
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

    /// This moment; where it is known already, its state is not kept twice.
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

    /// Keeps the slot's state as it is.
    pub(super) async fn keep(&self) -> Result<KeptState> {
        let mut scheduler = self.schedule().await?;
        self.engine.states().keep(scheduler.at_rest().await?, self.slot).await
    }

    /// Makes this a moment to go back to.
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

    /// This moment, to return to should something fail.
    pub(super) async fn before(&self) -> Result<Before> {
        Ok(Before { mark: self.mark_async().await?, backup: self.backup.clone() })
    }

    /// Makes the session what it was before something failed. Where that fails too, as on a lost device, its backup leads there
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

/// Makes a slot what another is.
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
