//! Going back in a conversation, and going on from one moment in several ways.

use super::answer::Answer;
use super::backup::{Backup, WeakBackup};
use super::generation::AnswerOptions;
use super::prefix::Trail;
use super::session::Session;
use super::states::Kept;
use crate::error::{Error, Result};
use crate::kernels::select::WINDOW;
use crate::model::Forward;
use crate::text::Message;
use std::sync::Arc;

/// A conversation at a moment, to come back to any number of times: [`Session::back_to`]. Clones share its state; the last of
/// them frees it.
#[derive(Clone)]
pub struct Mark {
    moment: Arc<Moment>,
    messages: Vec<Message>,
    fed: String,
    ids: Option<Vec<u32>>,
    past: Past,
}

impl Mark {
    /// The conversation up to then.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Tokens consumed by then.
    pub fn position(&self) -> u64 {
        self.moment.position
    }
}

/// What a session knows of itself at a moment, without the messages and their text, which only grow.
pub(super) struct Moment {
    messages: usize,
    /// Bytes of the rendered conversation.
    fed: usize,
    position: u64,
    consumed: Vec<u32>,
    unfinished: Vec<u8>,
    ended: bool,
    /// `None` before the first token.
    state: Option<Kept>,
    backup: WeakBackup,
}

/// A session as it was before something that may fail.
pub(super) struct Before {
    mark: Mark,
    backup: Backup,
}

/// What a session can go back to.
#[derive(Clone, Default)]
pub(super) struct Past {
    /// Before each message and after it was read, oldest first.
    moments: Vec<Arc<Moment>>,
    /// Whether the conversation must be read again because its state is not kept any more.
    pub(super) lost: bool,
    /// The ids that led here.
    pub(super) trail: Trail,
}

impl Past {
    /// Forgets the moments, but not what led here.
    pub(super) fn clear(&mut self) {
        self.moments.clear();
    }
}

impl Session {
    /// This moment, to come back to.
    pub fn mark(&self) -> Result<Mark> {
        let moment = self.moment()?;
        Ok(Mark {
            moment,
            messages: self.messages.clone(),
            fed: self.fed.clone(),
            ids: self.ids.clone(),
            past: self.past.clone(),
        })
    }

    /// Makes the session what it was at a moment of it or of another session of the engine. How tokens are chosen stays as it
    /// is.
    ///
    /// Where the state of then is not kept any more, the next message has the conversation read again; without messages
    /// that is [`Error::StateNotKept`], and the session is as before.
    pub fn back_to(&mut self, mark: &Mark) -> Result<()> {
        match self.put_back(&mark.moment) {
            Ok(()) => {
                self.past = mark.past.clone();
                self.fed.clone_from(&mark.fed);
                self.ids.clone_from(&mark.ids);
            }
            Err(Error::StateNotKept { .. }) if !mark.messages.is_empty() => self.lose(),
            Err(error) => return Err(error),
        }
        self.messages.clone_from(&mark.messages);
        Ok(())
    }

    /// A session in a free slot that is where this one is. Neither disturbs the other.
    pub fn fork(&self) -> Result<Session> {
        let mut other = self.engine.session(self.sampling().clone())?;
        if self.position > 0 {
            copy(self.schedule()?.at_rest()?, (self.slot, other.slot), self.position)?;
        }
        other.messages.clone_from(&self.messages);
        other.fed.clone_from(&self.fed);
        other.ids.clone_from(&self.ids);
        other.consumed.clone_from(&self.consumed);
        other.unfinished.clone_from(&self.unfinished);
        (other.position, other.ended) = (self.position, self.ended);
        other.past = self.past.clone();
        other.backup = self.backup.clone();
        Ok(other)
    }

    /// Takes back the last message of the user and what was answered; gives that message. Nothing is read, unless the state
    /// of then is not kept any more: then the next message has the conversation read again.
    pub fn undo(&mut self) -> Result<Message> {
        let last = self.messages.iter().rposition(|message| message.role == "user").ok_or(Error::NothingToUndo)?;
        self.go_back(last)?;
        let mut gone = self.messages.split_off(last);
        Ok(gone.swap_remove(0))
    }

    /// Answers the last message of the user again, in place of the answer it had: chooses anew from where the message had
    /// been read. With the same seed the answer is the same. Where the state of then is not kept any more, the conversation
    /// is read again. After an error, and where it was cancelled before the answer began, the old answer is there as before.
    pub fn retry(&mut self, options: &AnswerOptions) -> Result<Answer<'_>> {
        self.begin_call();
        let before = self.before()?;
        self.messages.pop_if(|message| message.role == "assistant");
        let read = match self.messages.last() {
            Some(message) if message.role == "user" => self.read_already(),
            _ => Err(Error::NothingToResume),
        };
        self.answer(read, before, options)
    }

    /// Brings the session to where its last message had just been read.
    fn read_already(&mut self) -> Result<()> {
        self.go_back(self.messages.len())?;
        if self.past.lost {
            return self.read_messages();
        }
        self.read_again = false;
        Ok(())
    }

    /// Brings the state to where there were so many messages and all of them had been read; the messages stay.
    fn go_back(&mut self, messages: usize) -> Result<()> {
        let found = self.past.moments.iter().rposition(|moment| moment.messages == messages);
        let Some(at) = found else {
            self.lose();
            return Ok(());
        };
        let moment = self.past.moments[at].clone();
        match self.put_back(&moment) {
            Ok(()) => {
                self.fed.truncate(moment.fed);
                self.past.moments.truncate(at + 1);
                self.past.trail.truncate(moment.position);
                if let Some(ids) = &mut self.ids {
                    ids.truncate(usize::try_from(moment.position).unwrap_or(usize::MAX));
                }
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
        self.past.lost = true;
    }

    fn put_back(&mut self, moment: &Moment) -> Result<()> {
        let mut stepper = self.schedule()?;
        let states = self.engine.states();
        let again = moment.state.as_ref().filter(|state| states.was_lost(state)).and_then(|_| moment.backup.upgrade());
        let kept = match (again, &moment.state) {
            (Some(backup), _) => backup.put_into(&mut stepper, self.slot, moment.position),
            (None, Some(state)) => states.restore(stepper.at_rest()?, self.slot, moment.position, state),
            (None, None) => stepper.reset(self.slot),
        };
        let backup = kept.and_then(|()| match moment.backup.upgrade() {
            Some(backup) => Ok(backup),
            None => Backup::of(&mut stepper, self.slot, moment.position),
        });
        drop(stepper);
        self.backup = backup.inspect_err(|_| self.doubt())?;
        self.be_as_at(moment);
        Ok(())
    }

    fn be_as_at(&mut self, moment: &Moment) {
        self.consumed.clone_from(&moment.consumed);
        self.unfinished.clone_from(&moment.unfinished);
        (self.position, self.ended) = (moment.position, moment.ended);
    }

    /// This moment; where it is known already, its state is not kept twice.
    fn moment(&self) -> Result<Arc<Moment>> {
        if let Some(last) = self.past.moments.last()
            && (last.messages, last.position, last.fed) == (self.messages.len(), self.position, self.fed.len())
            && last.state.as_ref().is_none_or(|state| self.engine.states().has(state))
        {
            return Ok(last.clone());
        }
        let state = match self.position {
            0 => None,
            _ => Some(self.keep()?),
        };
        Ok(Arc::new(Moment {
            messages: self.messages.len(),
            fed: self.fed.len(),
            position: self.position,
            consumed: self.consumed[self.consumed.len().saturating_sub(WINDOW)..].to_vec(),
            unfinished: self.unfinished.clone(),
            ended: self.ended,
            state,
            backup: self.backup.downgrade(),
        }))
    }

    /// Keeps the slot's state as it is.
    pub(super) fn keep(&self) -> Result<Kept> {
        self.engine.states().keep(self.schedule()?.at_rest()?, self.slot)
    }

    /// Makes this a moment to go back to.
    pub(super) fn remember(&mut self) -> Result<()> {
        if self.past.lost {
            return Ok(());
        }
        let moment = self.moment()?;
        let states = self.engine.states();
        self.past.moments.retain(|earlier| {
            earlier.messages < moment.messages && earlier.state.as_ref().is_none_or(|state| states.has(state))
        });
        if let Some(state) = &moment.state {
            self.keep_beginning(state)?;
        }
        self.past.moments.push(moment);
        Ok(())
    }

    /// This moment, to return to should something fail.
    pub(super) fn before(&self) -> Result<Before> {
        Ok(Before { mark: self.mark()?, backup: self.backup.clone() })
    }

    /// Makes the session what it was before something failed. Where that fails too, as on a lost device, its backup leads there
    /// when the slot is used next.
    pub(super) fn return_to(&mut self, Before { mark, backup }: Before) {
        if self.put_back(&mark.moment).is_err() {
            self.be_as_at(&mark.moment);
            self.backup = backup;
            self.doubt();
        }
        (self.messages, self.fed, self.ids, self.past) = (mark.messages, mark.fed, mark.ids, mark.past);
    }
}

/// Makes a slot what another is.
fn copy(forward: &mut Forward, (from, to): (usize, usize), position: u64) -> Result<()> {
    match forward.saved() {
        Ok(saved) => {
            forward.save(from, 0, &saved)?;
            forward.restore(to, position, &saved)
        }
        Err(Error::OutOfMemory { .. }) => {
            let state = pollster::block_on(forward.read_state(from, 0))?;
            forward.write_state(to, position, &state)
        }
        Err(error) => Err(error),
    }
}
