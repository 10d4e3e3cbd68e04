//! One conversation.

use super::answer::{Answer, Turn};
use super::backup::Backup;
use super::cancel::CancelHandle;
use super::engine::Engine;
use super::generation::{AnswerOptions, Generation};
use super::sampler::Sampling;
use super::stepper::Stepper;
use super::turns::{Before, Past};
use crate::error::{Error, Result};
use crate::kernels::select::WINDOW;
use crate::text::{Message, Span};
use parking_lot::FairMutexGuard;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One conversation over a slot of an engine. Dropping it frees the slot.
pub struct Session {
    pub(super) engine: Engine,
    pub(super) slot: usize,
    pub(super) messages: Vec<Message>,
    /// The rendered conversation as far as the slot has consumed it.
    pub(super) fed: String,
    /// The last tokens that the slot has consumed, for penalties.
    pub(super) consumed: Vec<u32>,
    /// All of them, where they are kept.
    pub(super) ids: Option<Vec<u32>>,
    /// How many it has consumed in all, when no answer is under way.
    pub(super) position: u64,
    /// Bytes of a character that the last answer was cut off in.
    pub(super) unfinished: Vec<u8>,
    /// Whether the last answer came to its end, so that there is nothing to go on with.
    pub(super) ended: bool,
    pub(super) sampling: Sampling,
    pub(super) read_again: bool,
    pub(super) past: Past,
    /// What the slot's state is made from again.
    pub(super) backup: Backup,
    /// The device that the slot holds the session's state on, by [`Stepper::epoch`]; [`NOWHERE`] where an error left the slot in
    /// doubt.
    epoch: AtomicU64,
    cancel: CancelHandle,
    /// Set when the call that began last is to end.
    pub(super) cancelled: Arc<AtomicBool>,
}

/// No device: they count from 1 on.
const NOWHERE: u64 = 0;

impl Session {
    pub(super) fn new(engine: Engine, slot: usize, sampling: Sampling) -> Self {
        Session {
            engine,
            slot,
            messages: vec![],
            fed: String::new(),
            consumed: vec![],
            ids: None,
            position: 0,
            unfinished: vec![],
            ended: false,
            sampling,
            read_again: false,
            past: Past::default(),
            backup: Backup::default(),
            epoch: AtomicU64::new(NOWHERE),
            cancel: CancelHandle::default(),
            cancelled: Arc::default(),
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The conversation so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Tokens consumed so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How tokens are chosen.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Changes how tokens are chosen from the next answer on. After an error it is as before.
    pub fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        sampling.rules(self.engine.checkpoint().config().vocab)?;
        let set = self.engine.set_sampling(&mut *self.schedule()?, self.slot, &sampling);
        set.inspect_err(|_| self.doubt())?;
        self.sampling = sampling;
        Ok(())
    }

    /// The schedule, with the session's state in its slot. Where it is not there, since the device was lost or something failed,
    /// it is made from the backup first.
    pub(super) fn schedule(&self) -> Result<FairMutexGuard<'_, Stepper>> {
        let mut stepper = self.engine.stepper();
        if self.epoch.load(Ordering::Relaxed) != stepper.epoch() {
            self.backup.put_into(&mut stepper, self.slot, self.position)?;
            self.engine.set_sampling(&mut stepper, self.slot, &self.sampling)?;
            self.epoch.store(stepper.epoch(), Ordering::Relaxed);
        }
        Ok(stepper)
    }

    /// The schedule while an answer is under way: an error where its device was lost.
    pub(super) fn schedule_of_answer(&self) -> Result<FairMutexGuard<'_, Stepper>> {
        let stepper = self.engine.stepper();
        if self.epoch.load(Ordering::Relaxed) != stepper.epoch() {
            return Err(Error::DeviceLost { reason: "the answer began on the device before".to_owned() });
        }
        Ok(stepper)
    }

    /// Nobody knows what the slot holds: its state is made from the backup before it is used again.
    pub(super) fn doubt(&self) {
        self.epoch.store(NOWHERE, Ordering::Relaxed);
    }

    /// Makes the state that the slot holds the backup's, where much has been consumed since the one that it has.
    fn back_up(&mut self) -> Result<()> {
        if self.backup.is_due(0) {
            let backup = Backup::of(&mut *self.schedule()?, self.slot, self.position)?;
            self.backup = backup;
        }
        Ok(())
    }

    /// How many tokens penalties look at.
    pub(super) fn window(&self) -> usize {
        self.sampling.window()
    }

    /// Whether the last message made the whole conversation be read again, because the template or somebody has changed
    /// what was read before, or because its state is not kept any more.
    pub fn was_read_again(&self) -> bool {
        self.read_again
    }

    /// A handle that stops what this session is doing.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// A call begins that can be cancelled.
    pub(super) fn begin_call(&mut self) {
        self.cancelled = self.cancel.begin();
    }

    /// Forgets everything: the state is as before the first token. An error is the device's; everything is forgotten all the
    /// same.
    pub fn clear(&mut self) -> Result<()> {
        self.messages.clear();
        self.forget();
        self.schedule().map(|_| ())
    }

    /// Forgets what was consumed, but not the conversation: it will be read again.
    pub(super) fn forget(&mut self) {
        self.past = Past::default();
        self.fed.clear();
        self.consumed.clear();
        self.ids.iter_mut().for_each(Vec::clear);
        self.unfinished.clear();
        (self.position, self.ended) = (0, false);
        self.backup = Backup::default();
        self.doubt();
    }

    /// Feeds tokens, whether or not another session has read the same.
    pub(super) fn feed_all(&mut self, ids: &[u32]) -> Result<()> {
        let outcome = self.engine.feed(self.schedule()?, self.slot, ids, &self.cancelled);
        let now = self.schedule_of_answer().map(|stepper| stepper.position(self.slot));
        let count = now.ok().and_then(|now| usize::try_from(now.checked_sub(self.position)?).ok());
        let consumed = count.and_then(|count| ids.get(..count));
        let Some(consumed) = consumed.filter(|consumed| outcome.is_err() || consumed.len() == ids.len()) else {
            // The device was lost, and another thread has heard of it first.
            self.doubt();
            return outcome.and(Err(Error::DeviceLost { reason: "while the prompt was read".to_owned() }));
        };
        self.position += consumed.len() as u64;
        self.consume(consumed);
        self.backup.read(consumed);
        if !consumed.is_empty() {
            self.unfinished.clear();
            self.ended = false;
        }
        outcome?;
        // What fails here is tried again after the next tokens.
        let _ = self.back_up();
        Ok(())
    }

    /// Feeds tokens and continues them; without any it continues what was consumed before. Of a prompt that is cancelled the
    /// chunks that were fed by then stay fed.
    pub fn generate(&mut self, ids: &[u32], options: &AnswerOptions) -> Result<Generation<'_>> {
        self.begin_call();
        self.read_again = false;
        if !ids.is_empty() || self.position == 0 {
            match self.read(ids) {
                Err(Error::Cancelled) => return Ok(Generation::cancelled(self)),
                read => read?,
            }
        }
        self.leave_beginning()?;
        Generation::new(self, options)
    }

    /// Remembers consumed tokens, as many as penalties can look at.
    pub(super) fn consume(&mut self, ids: &[u32]) {
        self.ids.iter_mut().for_each(|all| all.extend(ids));
        self.consumed.extend(&ids[ids.len().saturating_sub(WINDOW)..]);
        if self.consumed.len() > 2 * WINDOW {
            self.consumed.drain(..self.consumed.len() - WINDOW);
        }
    }

    /// Goes on where the last answer was cut off, by its limit of tokens or by somebody, without feeding anything: the
    /// tokens are those that would have come.
    pub fn resume(&mut self, options: &AnswerOptions) -> Result<Answer<'_>> {
        if self.ended || self.position == 0 {
            return Err(Error::NothingToResume);
        }
        self.begin_call();
        self.read_again = false;
        let turn = match self.messages.last() {
            Some(message) if message.role == "assistant" => Turn::Rest,
            Some(message) if message.role == "user" => Turn::Whole,
            _ => Turn::None,
        };
        Ok(Answer::new(Generation::new(self, options)?, options, turn))
    }

    /// Feeds plain text, as ids, and streams what the model makes of it.
    pub fn complete(&mut self, ids: &[u32], options: &AnswerOptions) -> Result<Answer<'_>> {
        Ok(Answer::new(self.generate(ids, options)?, options, Turn::None))
    }

    /// Sets the system prompt; a conversation under way is read again with it.
    pub fn system(&mut self, text: &str) {
        self.messages.retain(|message| message.role != "system");
        self.messages.insert(0, Message::new("system", text));
        self.past.clear();
    }

    /// Says something as the user and streams the assistant's answer.
    ///
    /// Only what the template adds to what was already fed is read. Where a template rewrites earlier turns, the
    /// conversation is read again from its start. After an error, and where it was cancelled before the answer began, the
    /// conversation is as before.
    pub fn send(&mut self, text: &str, options: &AnswerOptions) -> Result<Answer<'_>> {
        self.begin_call();
        self.remember()?;
        let before = self.before()?;
        self.messages.push(Message::new("user", text));
        let read = self.read_messages();
        self.answer(read, before, options)
    }

    /// Takes these messages as the conversation and streams the assistant's answer to them. What they share with what was fed
    /// is not read again. After an error, and where it was cancelled before the answer began, the conversation is as before.
    pub fn converse(&mut self, messages: Vec<Message>, options: &AnswerOptions) -> Result<Answer<'_>> {
        self.begin_call();
        self.remember()?;
        let before = self.before()?;
        self.messages = messages;
        let read = self.read_messages();
        self.answer(read, before, options)
    }

    /// Begins the assistant's turn once the conversation was read. Where either fails, the session is as it was `before`.
    pub(super) fn answer(&mut self, read: Result<()>, before: Before, options: &AnswerOptions) -> Result<Answer<'_>> {
        match read.and_then(|()| self.begin(options)) {
            Ok(()) => Ok(Answer::new(Generation::begun(self, options), options, Turn::Whole)),
            Err(Error::Cancelled) => {
                self.return_to(before);
                Ok(Answer::new(Generation::cancelled(self), options, Turn::None))
            }
            Err(error) => {
                self.return_to(before);
                Err(error)
            }
        }
    }

    /// Has the first token chosen after what was consumed.
    pub(super) fn begin(&mut self, options: &AnswerOptions) -> Result<()> {
        let read = (self.consumed.as_slice(), self.window());
        self.engine.begin(self.schedule()?, self.slot, read, options.logprobs.is_some())?;
        self.ended = false;
        Ok(())
    }

    /// Feeds what the messages add to what was fed.
    pub(super) fn read_messages(&mut self) -> Result<()> {
        let (ids, whole) = self.prepare()?;
        self.read(&ids)?;
        self.fed = whole;
        self.remember()
    }

    /// The ids that the conversation adds to what was fed, and the conversation as it will then be.
    fn prepare(&mut self) -> Result<(Vec<u32>, String)> {
        let checkpoint = self.engine.checkpoint();
        let spans = checkpoint.render_unless(&self.cancelled, &self.messages, true)?;
        let whole: String = spans.iter().map(|span| span.text.as_str()).collect();
        self.read_again = std::mem::take(&mut self.past.lost) || !whole.starts_with(&self.fed);
        let ids = match whole.strip_prefix(&self.fed) {
            Some(_) => checkpoint.encode(&after(&spans, self.fed.len()))?,
            None => {
                let ids = checkpoint.encode(&spans)?;
                self.forget();
                ids
            }
        };
        Ok((ids, whole))
    }
}

/// What is left of spans after their first `bytes` bytes, which end on a character.
fn after(spans: &[Span], mut bytes: usize) -> Vec<Span> {
    let mut rest = Vec::new();
    for span in spans {
        let skip = bytes.min(span.text.len());
        bytes -= skip;
        if skip < span.text.len() {
            rest.push(Span { text: span.text[skip..].to_owned(), literal: span.literal });
        }
    }
    rest
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.schedule_of_answer().is_ok() {
            // What fails here fails again, and is reported, at the next use of the device.
            let _ = self.leave_beginning();
        }
        self.engine.stepper().free_slot(self.slot);
    }
}
