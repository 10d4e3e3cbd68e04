//! One conversation over a slot of an engine.

use super::answer::{Answer, Role};
use super::backup::Backup;
use super::cancel::CancelHandle;
use super::conversation::Conversation;
use super::departures::{Departure, End};
use super::engine::Engine;
use super::generation::{AnswerOptions, Generation};
use super::history::{Before, History};
use super::sampler::Sampling;
use super::scheduler::Scheduler;
use crate::error::{Error, Result};
use crate::text::{Message, Span};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::MutexGuard;

/// One conversation over a slot of an engine. Dropping it frees the slot.
pub struct Session {
    pub(super) engine: Engine,
    pub(super) slot: usize,
    pub(super) conversation: Conversation,
    pub(super) sampling: Sampling,
    read_again: bool,
    pub(super) history: History,
    /// What the slot's state can be computed from again.
    pub(super) backup: Backup,
    epoch: Epoch,
    cancel: CancelHandle,
    /// Set when the call that began last is to end.
    pub(super) cancelled: Arc<AtomicBool>,
}

/// The device that holds a session's state in its slot, as [`Scheduler::epoch`] counts them; [`NOWHERE`] where an error left the
/// slot in doubt.
pub(super) type Epoch = Arc<AtomicU64>;

/// No device: they count from 1 on.
pub(super) const NOWHERE: u64 = 0;

/// What an answer continues.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A message of the user, after the conversation so far: see [`Session::send`].
    Message(String),
    /// A whole conversation: see [`Session::converse`].
    Messages(Vec<Message>),
    /// Token ids, fed as they are: see [`Session::complete`].
    Ids(Vec<u32>),
    /// An answer that was cut off: see [`Session::resume`].
    Resume,
    /// The last message of the user, in place of the answer it had: see [`Session::retry`].
    Retry,
}

/// An answer that has begun, or was cancelled before it did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    pub(super) role: Role,
    pub(super) cancelled: bool,
}

impl Begun {
    fn of(role: Role) -> Self {
        Begun { role, cancelled: false }
    }

    const CANCELLED: Begun = Begun { role: Role::None, cancelled: true };
}

/// Puts a session's slot in doubt where a call is dropped half-way: its future was not polled to its end.
struct Unfinished<'a>(&'a AtomicU64);

impl Unfinished<'_> {
    fn finished(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.store(NOWHERE, Ordering::Relaxed);
    }
}

impl Session {
    pub(super) fn new(engine: Engine, slot: usize, sampling: Sampling) -> Self {
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

    /// The engine's slots, with the session's state in its own. Where it is not there, since the device was lost or something
    /// failed, it is computed from the backup first.
    pub(super) async fn schedule(&self) -> Result<MutexGuard<'_, Scheduler>> {
        let mut scheduler = self.engine.scheduler().await;
        if self.epoch() != scheduler.epoch() {
            self.backup.put_into(&mut scheduler, self.slot, self.position()).await?;
            self.engine.set_sampling(&mut scheduler, self.slot, &self.sampling).await?;
            self.epoch.store(scheduler.epoch(), Ordering::Relaxed);
        }
        Ok(scheduler)
    }

    /// The engine's slots while an answer is under way: an error where its device was lost.
    pub(super) async fn schedule_of_answer(&self) -> Result<MutexGuard<'_, Scheduler>> {
        let scheduler = self.engine.scheduler().await;
        if self.epoch() != scheduler.epoch() {
            return Err(Error::DeviceLost { reason: "the answer began on the device before".to_owned() });
        }
        Ok(scheduler)
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Nobody knows what the slot holds: its state is computed from the backup before it is used again.
    pub(super) fn doubt(&self) {
        self.epoch.store(NOWHERE, Ordering::Relaxed);
    }

    /// Leaves the slot as after the last token given out, of which `last` is the last: now, or before it is used next.
    pub(super) fn leave_answer(&self, last: Option<u32>) {
        let end = End::Answer { position: self.position(), last, session: self.epoch.clone() };
        self.engine.leave(Departure { slot: self.slot, epoch: self.epoch(), end });
    }

    /// Reads the slot's state back where much has been consumed since the one that the backup has.
    async fn back_up(&mut self) -> Result<()> {
        if self.backup.is_due(0) {
            let mut scheduler = self.schedule().await?;
            let backup = Backup::of(&mut scheduler, self.slot, self.position()).await?;
            drop(scheduler);
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
    pub async fn clear_async(&mut self) -> Result<()> {
        self.conversation.messages.clear();
        self.forget();
        self.schedule().await.map(|_| ())
    }

    /// Forgets what was consumed, but not the messages: they will be read again.
    pub(super) fn forget(&mut self) {
        self.history = History::default();
        self.conversation.forget_consumed();
        self.backup = Backup::default();
        self.doubt();
    }

    /// Feeds tokens and leaves it at that. A prompt that is cancelled ends with [`Error::Cancelled`]; the chunks that were fed
    /// by then stay fed.
    pub async fn feed_async(&mut self, ids: &[u32]) -> Result<()> {
        self.begin_call();
        self.read(ids).await
    }

    /// Feeds tokens chunk by chunk, all of them: the prefix cache was asked already.
    pub(super) async fn feed_all(&mut self, ids: &[u32]) -> Result<()> {
        let scheduler = self.schedule().await?;
        let unfinished = Unfinished(&self.epoch);
        let outcome = self.engine.feed(scheduler, self.slot, ids, &self.cancelled).await;
        let now = self.schedule_of_answer().await.map(|scheduler| scheduler.position(self.slot));
        unfinished.finished();
        let count = now.ok().and_then(|now| usize::try_from(now.checked_sub(self.position())?).ok());
        let consumed = count.and_then(|count| ids.get(..count));
        let Some(consumed) = consumed.filter(|consumed| outcome.is_err() || consumed.len() == ids.len()) else {
            // The device was lost, and another thread has heard of it first.
            self.doubt();
            return outcome.and(Err(Error::DeviceLost { reason: "while the prompt was read".to_owned() }));
        };
        self.conversation.consume(consumed, consumed.len());
        self.backup.read(consumed);
        if !consumed.is_empty() {
            self.conversation.unfinished.clear();
            self.conversation.ended = false;
        }
        outcome?;
        // What fails here is tried again after the next tokens.
        let _ = self.back_up().await;
        Ok(())
    }

    /// Feeds tokens and continues them; without any it continues what was consumed before. Of a prompt that is cancelled the
    /// chunks that were fed by then stay fed.
    pub async fn generate_async(&mut self, ids: &[u32], options: &AnswerOptions) -> Result<Generation<'_>> {
        let begun = self.begin_ids(ids, options).await?;
        Ok(Generation::begun(self.into(), options, begun))
    }

    /// Begins an answer and gives it out piece by piece. Where it cannot begin, or was cancelled before it did, the
    /// conversation is as before; of [`Prompt::Ids`] what was fed stays fed.
    pub async fn answer_async(&mut self, prompt: Prompt, options: &AnswerOptions) -> Result<Answer<'_>> {
        let begun = self.begin_prompt(prompt, options).await?;
        Ok(Answer::begun(self.into(), options, begun))
    }

    /// An answer that owns the session and can go to another thread or task. It begins when its first piece is asked for: an
    /// error of [`Session::answer_async`] is that piece. [`Answer::into_session`] gives the session back.
    pub fn into_answer(self, prompt: Prompt, options: &AnswerOptions) -> Answer<'static> {
        Answer::to_begin(self, prompt, options)
    }

    pub(super) async fn begin_prompt(&mut self, prompt: Prompt, options: &AnswerOptions) -> Result<Begun> {
        match prompt {
            Prompt::Message(text) => {
                self.begin_message(|messages| messages.push(Message::new("user", text)), options).await
            }
            Prompt::Messages(messages) => self.begin_message(|all| *all = messages, options).await,
            Prompt::Ids(ids) => self.begin_ids(&ids, options).await,
            Prompt::Resume => self.begin_rest(options).await,
            Prompt::Retry => self.begin_again(options).await,
        }
    }

    async fn begin_ids(&mut self, ids: &[u32], options: &AnswerOptions) -> Result<Begun> {
        self.begin_call();
        self.read_again = false;
        if !ids.is_empty() || self.position() == 0 {
            match self.read(ids).await {
                Err(Error::Cancelled) => return Ok(Begun::CANCELLED),
                read => read?,
            }
        }
        self.offer_prefix().await?;
        self.begin(options).await?;
        Ok(Begun::of(Role::None))
    }

    async fn begin_rest(&mut self, options: &AnswerOptions) -> Result<Begun> {
        if self.conversation.ended || self.position() == 0 {
            return Err(Error::NothingToResume);
        }
        self.begin_call();
        self.read_again = false;
        let role = match self.messages().last() {
            Some(message) if message.role == "assistant" => Role::RestOfMessage,
            Some(message) if message.role == "user" => Role::Message,
            _ => Role::None,
        };
        self.begin(options).await?;
        Ok(Begun::of(role))
    }

    /// Reads the messages once `change` was made to them, and begins the answer to them.
    async fn begin_message(
        &mut self,
        change: impl FnOnce(&mut Vec<Message>),
        options: &AnswerOptions,
    ) -> Result<Begun> {
        self.begin_call();
        self.remember().await?;
        let before = self.before().await?;
        change(&mut self.conversation.messages);
        let read = self.read_messages().await;
        self.begin_after(read, before, options).await
    }

    async fn begin_again(&mut self, options: &AnswerOptions) -> Result<Begun> {
        self.begin_call();
        let before = self.before().await?;
        self.conversation.messages.pop_if(|message| message.role == "assistant");
        let read = match self.messages().last() {
            Some(message) if message.role == "user" => self.go_back_to_last_message().await,
            _ => Err(Error::NothingToResume),
        };
        self.begin_after(read, before, options).await
    }

    async fn go_back_to_last_message(&mut self) -> Result<()> {
        self.go_back(self.messages().len()).await?;
        if self.history.lost {
            return self.read_messages().await;
        }
        self.read_again = false;
        Ok(())
    }

    /// Begins the assistant's message once the conversation was read. Where either fails, the session is as it was `before`.
    async fn begin_after(&mut self, read: Result<()>, before: Before, options: &AnswerOptions) -> Result<Begun> {
        let begun = match read {
            Ok(()) => self.begin(options).await,
            Err(error) => Err(error),
        };
        match begun {
            Ok(()) => Ok(Begun::of(Role::Message)),
            Err(error) => {
                self.return_to(before).await;
                if matches!(error, Error::Cancelled) { Ok(Begun::CANCELLED) } else { Err(error) }
            }
        }
    }

    /// Has the first token chosen after what was consumed.
    async fn begin(&mut self, options: &AnswerOptions) -> Result<()> {
        let scheduler = self.schedule().await?;
        let unfinished = Unfinished(&self.epoch);
        let read = (self.conversation.recent(), self.window());
        let begun = self.engine.begin(scheduler, self.slot, read, options.logprobs.is_some()).await;
        unfinished.finished();
        begun?;
        self.conversation.ended = false;
        Ok(())
    }

    /// Sets the system prompt; a conversation under way is read again with it.
    pub fn system(&mut self, text: &str) {
        let messages = &mut self.conversation.messages;
        messages.retain(|message| message.role != "system");
        messages.insert(0, Message::new("system", text));
        self.history.clear();
    }

    /// Feeds what the messages add to what was fed.
    async fn read_messages(&mut self) -> Result<()> {
        let (ids, text) = self.render()?;
        self.read(&ids).await?;
        self.conversation.text = text;
        self.remember().await
    }

    /// The ids that the messages add to what was fed, and their text.
    fn render(&mut self) -> Result<(Vec<u32>, String)> {
        let checkpoint = self.engine.checkpoint();
        let spans = checkpoint.render_unless(&self.cancelled, &self.conversation.messages, true)?;
        let whole: String = spans.iter().map(|span| span.text.as_str()).collect();
        let fed = &self.conversation.text;
        let continues = whole.starts_with(fed);
        let ids = checkpoint.encode(if continues { after(&spans, fed.len()) } else { spans }.as_slice())?;
        if !continues {
            self.read_again = true;
            self.forget();
        } else {
            self.read_again = std::mem::take(&mut self.history.lost);
        }
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
        let end = End::Session { prefix: self.prefix_to_offer() };
        self.engine.leave(Departure { slot: self.slot, epoch: self.epoch(), end });
    }
}
