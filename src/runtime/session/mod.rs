//! One conversation over a slot of an engine.

mod answer;
mod generation;
mod history;
mod prefix;
mod prompt;
mod score;
mod snapshot;

pub use answer::{Answer, Chosen};
pub use generation::{AnswerOptions, Finish, Generation, Logprobs};
pub use history::Mark;
pub use prompt::Prompt;

use super::backup::Backup;
use super::cancel::CancelHandle;
use super::conversation::Conversation;
use super::engine::{Departure, End, Engine};
use super::sampler::Sampling;
use super::scheduler::{Epoch, NOWHERE, Scheduler};
use crate::error::{Error, Result};
use crate::text::{Grammar, Message};
use history::History;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::MutexGuard;

/// One conversation over a slot of an engine. Dropping it frees the slot.
///
/// ```no_run
/// # fn f(engine: &peregrine::Engine) -> peregrine::Result<()> {
/// use peregrine::{AnswerOptions, Sampling};
/// let mut session = engine.session(Sampling::GREEDY)?;
/// session.system("Answer in one sentence.");
/// for piece in session.send("What is a falcon?", &AnswerOptions::default())? {
///     print!("{}", piece?);
/// }
/// session.undo()?;
/// # Ok(())
/// # }
/// ```
pub struct Session {
    engine: Engine,
    slot: usize,
    conversation: Conversation,
    sampling: Sampling,
    read_again: bool,
    history: History,
    /// From which the slot's state can be recomputed.
    backup: Backup,
    epoch: Epoch,
    cancel: CancelHandle,
    /// Set when the call that began last is to end.
    cancelled: Arc<AtomicBool>,
    /// Whether the next call has begun already: that of an answer which owns the session and has not been polled.
    begun_early: bool,
}

/// Marks a slot's state as unknown if a call's future is dropped before its end.
struct DoubtOnDrop<'a>(&'a AtomicU64);

impl DoubtOnDrop<'_> {
    /// The call came to its end.
    fn finished(self) {
        std::mem::forget(self);
    }
}

impl Drop for DoubtOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(NOWHERE, Ordering::Relaxed);
    }
}

impl Engine {
    /// A new session in a free slot; [`Error::NoFreeSlot`] if there is none.
    pub async fn session_async(&self, sampling: Sampling) -> Result<Session> {
        let slot = self.scheduler().await.take_slot()?;
        // From here on, dropping the session frees the slot.
        let session = Session::new(self.clone(), slot, sampling);
        drop(session.schedule().await?);
        Ok(session)
    }
}

impl Session {
    fn new(engine: Engine, slot: usize, sampling: Sampling) -> Self {
        Session {
            engine,
            slot,
            conversation: Conversation::default(),
            sampling,
            read_again: false,
            history: History::default(),
            backup: Backup::default(),
            epoch: Arc::new(AtomicU64::new(NOWHERE)),
            cancel: CancelHandle::default(),
            cancelled: Arc::default(),
            begun_early: false,
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The conversation so far.
    pub fn messages(&self) -> &[Message] {
        &self.conversation.messages
    }

    /// Tokens consumed so far.
    pub fn position(&self) -> u64 {
        self.conversation.position
    }

    /// How tokens are chosen.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Changes how tokens are chosen from the next answer on. After an error it is as before.
    pub async fn set_sampling_async(&mut self, sampling: Sampling) -> Result<()> {
        sampling.rules(self.engine.checkpoint().config().vocab)?;
        let mut scheduler = self.schedule().await?;
        let set = self.engine.set_sampling(&mut scheduler, self.slot, &sampling).await;
        drop(scheduler);
        set.inspect_err(|_| self.doubt())?;
        self.sampling = sampling;
        Ok(())
    }

    /// Locks the engine's slots, with the session's state in its own. After a device loss or an error the state is first
    /// recomputed from the backup.
    async fn schedule(&self) -> Result<MutexGuard<'_, Scheduler>> {
        let mut scheduler = self.engine.scheduler().await;
        if self.epoch() != scheduler.epoch() {
            self.backup.put_into(&mut scheduler, self.slot, self.position()).await?;
            self.engine.set_sampling(&mut scheduler, self.slot, &self.sampling).await?;
            self.epoch.store(scheduler.epoch(), Ordering::Relaxed);
        }
        Ok(scheduler)
    }

    /// Locks the engine's slots during an answer; [`Error::DeviceLost`] if its device was lost.
    async fn schedule_of_answer(&self) -> Result<MutexGuard<'_, Scheduler>> {
        let scheduler = self.engine.scheduler().await;
        if self.epoch() != scheduler.epoch() {
            return Err(Error::DeviceLost { reason: "the answer began on the device before".to_owned() });
        }
        Ok(scheduler)
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Marks the slot's state as unknown unless the guard is told that the call finished.
    fn doubt_on_drop(&self) -> DoubtOnDrop<'_> {
        DoubtOnDrop(&self.epoch)
    }

    /// Marks the slot's state as unknown: it is recomputed from the backup before it is used again.
    fn doubt(&self) {
        self.epoch.store(NOWHERE, Ordering::Relaxed);
    }

    /// Queues an answer's cleanup: the slot gets its state after the last token given out, which is `last`, and its bias without
    /// the answer's grammar.
    fn leave_answer(&self, last: Option<u32>, grammar: Option<&Grammar>) {
        let bias = grammar.map(|_| self.engine.bias(&self.sampling).into());
        let end = End::Answer { position: self.position(), last, bias, session: self.epoch.clone() };
        self.engine.leave(Departure { slot: self.slot, epoch: self.epoch(), end });
    }

    /// Reads the slot's state back into the backup if replaying what came since would take long.
    async fn back_up(&mut self) -> Result<()> {
        if self.backup.is_due(0) {
            let mut scheduler = self.schedule().await?;
            let backup = Backup::of(&mut scheduler, self.slot, self.position()).await?;
            drop(scheduler);
            self.backup = backup;
        }
        Ok(())
    }

    /// Number of tokens that penalties look at.
    fn window(&self) -> usize {
        self.sampling.window()
    }

    /// Whether the last message had the whole conversation read again: its earlier text changed, or its state was not kept.
    pub fn was_read_again(&self) -> bool {
        self.read_again
    }

    /// A handle that cancels this session's calls.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// Begins a call that can be cancelled.
    fn begin_call(&mut self) {
        if !std::mem::take(&mut self.begun_early) {
            self.cancelled = self.cancel.begin();
        }
    }

    /// Begins the call of an answer that is polled later: a cancel before its first poll ends it too.
    fn begin_call_early(&mut self) {
        self.begin_call();
        self.begun_early = true;
    }

    /// The call that began early is over, or goes on: the next one begins by itself.
    fn no_early_call(&mut self) {
        self.begun_early = false;
    }

    /// Clears the conversation and resets the state. An error is the device's; the session is cleared all the same.
    pub async fn clear_async(&mut self) -> Result<()> {
        self.conversation.messages.clear();
        self.forget();
        self.schedule().await.map(|_| ())
    }

    /// Forgets what was consumed; the messages stay and will be read again.
    fn forget(&mut self) {
        self.history = History::default();
        self.conversation.forget_consumed();
        self.backup = Backup::default();
        self.doubt();
    }

    /// Feeds tokens without generating. A cancel ends it with [`Error::Cancelled`]; the chunks fed so far stay fed.
    pub async fn feed_async(&mut self, ids: &[u32]) -> Result<()> {
        self.begin_call();
        self.read(ids).await
    }

    /// Feeds tokens chunk by chunk, without the prefix cache.
    async fn feed_all(&mut self, ids: &[u32]) -> Result<()> {
        let scheduler = self.schedule().await?;
        let doubt = self.doubt_on_drop();
        let outcome = self.engine.feed(scheduler, self.slot, ids, &self.cancelled).await;
        let now = self.schedule_of_answer().await.map(|scheduler| scheduler.position(self.slot));
        doubt.finished();
        let count = now.ok().and_then(|now| usize::try_from(now.checked_sub(self.position())?).ok());
        let consumed = count.and_then(|count| ids.get(..count));
        let Some(consumed) = consumed.filter(|consumed| outcome.is_err() || consumed.len() == ids.len()) else {
            // The device was lost, and another thread noticed first.
            self.doubt();
            return outcome.and(Err(Error::DeviceLost { reason: "while the prompt was read".to_owned() }));
        };
        self.conversation.consume(consumed, consumed.len());
        self.backup.read(consumed);
        if !consumed.is_empty() {
            self.conversation.unfinished.clear();
            self.conversation.matching = None;
            self.conversation.ended = false;
        }
        outcome?;
        // After an error it is tried again after the next tokens.
        let _ = self.back_up().await;
        Ok(())
    }

    /// Sets the system prompt; a conversation in progress is read again with it.
    pub fn system(&mut self, text: &str) {
        let messages = &mut self.conversation.messages;
        messages.retain(|message| message.role != "system");
        messages.insert(0, Message::new("system", text));
        self.history.clear();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let end = End::Session { prefix: self.prefix_to_offer() };
        self.engine.leave(Departure { slot: self.slot, epoch: self.epoch(), end });
    }
}
