//! Engines and sessions for callers that wait: each call is its async twin, run to its end on this thread.

use super::{
    Answer, AnswerOptions, Checkpoint, Engine, EngineOptions, Generation, Mark, Prompt, Sampling, Session, Snapshot,
    StateBudget, Warning,
};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::model::Progress;
use crate::text::Message;
use pollster::block_on;

impl Engine {
    /// Uploads a checkpoint's weights and gets ready; `progress` is called after each piece. See [`Engine::load_async`].
    pub fn load(
        gpu: &Gpu,
        checkpoint: Checkpoint,
        options: EngineOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        block_on(Self::load_async(gpu, checkpoint, options, progress))
    }

    /// A new conversation, in a free slot. See [`Engine::session_async`].
    pub fn session(&self, sampling: Sampling) -> Result<Session> {
        block_on(self.session_async(sampling))
    }

    /// Opens the device again after [`Error::DeviceLost`](crate::Error::DeviceLost) and loads the model anew. See
    /// [`Engine::recover_async`].
    pub fn recover(&self, progress: &mut dyn FnMut(Progress)) -> Result<bool> {
        block_on(self.recover_async(progress))
    }

    /// [`Engine::recover`] on a device that the application has opened.
    pub fn recover_on(&self, gpu: &Gpu, progress: &mut dyn FnMut(Progress)) -> Result<bool> {
        block_on(self.recover_on_async(gpu, progress))
    }

    /// Sets how much memory kept states may take. See [`Engine::set_state_budget_async`].
    pub fn set_state_budget(&self, budget: StateBudget) -> Result<()> {
        block_on(self.set_state_budget_async(budget))
    }
}

impl Session {
    /// Says something as the user and streams the assistant's answer.
    ///
    /// Only what the template adds to what was already fed is read. Where a template rewrites earlier turns, the
    /// conversation is read again from its start. After an error, and where it was cancelled before the answer began, the
    /// conversation is as before.
    pub fn send(&mut self, text: &str, options: &AnswerOptions) -> Result<Answer<'_>> {
        block_on(self.answer_async(Prompt::Message(text.to_owned()), options))
    }

    /// Takes these messages as the conversation and streams the assistant's answer to them. What they share with what was fed
    /// is not read again. After an error, and where it was cancelled before the answer began, the conversation is as before.
    pub fn converse(&mut self, messages: Vec<Message>, options: &AnswerOptions) -> Result<Answer<'_>> {
        block_on(self.answer_async(Prompt::Messages(messages), options))
    }

    /// Feeds plain text, as ids, and streams the generated text.
    pub fn complete(&mut self, ids: &[u32], options: &AnswerOptions) -> Result<Answer<'_>> {
        block_on(self.answer_async(Prompt::Ids(ids.to_vec()), options))
    }

    /// Goes on where the last answer was cut off, by its limit of tokens or by somebody, without feeding anything: the
    /// tokens are those that would have come.
    pub fn resume(&mut self, options: &AnswerOptions) -> Result<Answer<'_>> {
        block_on(self.answer_async(Prompt::Resume, options))
    }

    /// Answers the last message of the user again, in place of the answer it had: chooses anew from where the message had
    /// been read. With the same seed the answer is the same. Where the state of then is not kept any more, the conversation
    /// is read again. After an error, and where it was cancelled before the answer began, the old answer is there as before.
    pub fn retry(&mut self, options: &AnswerOptions) -> Result<Answer<'_>> {
        block_on(self.answer_async(Prompt::Retry, options))
    }

    /// Feeds tokens and leaves it at that. See [`Session::feed_async`].
    pub fn feed(&mut self, ids: &[u32]) -> Result<()> {
        block_on(self.feed_async(ids))
    }

    /// Feeds tokens and continues them, token by token. See [`Session::generate_async`].
    pub fn generate(&mut self, ids: &[u32], options: &AnswerOptions) -> Result<Generation<'_>> {
        block_on(self.generate_async(ids, options))
    }

    /// Changes how tokens are chosen from the next answer on. After an error it is as before.
    pub fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        block_on(self.set_sampling_async(sampling))
    }

    /// Forgets everything: the state is as before the first token. See [`Session::clear_async`].
    pub fn clear(&mut self) -> Result<()> {
        block_on(self.clear_async())
    }

    /// Takes back the last message of the user and what was answered; gives that message. See [`Session::undo_async`].
    pub fn undo(&mut self) -> Result<Message> {
        block_on(self.undo_async())
    }

    /// A session in a free slot that is where this one is. Neither disturbs the other.
    pub fn fork(&self) -> Result<Session> {
        block_on(self.fork_async())
    }

    /// This moment, to come back to.
    pub fn mark(&self) -> Result<Mark> {
        block_on(self.mark_async())
    }

    /// Makes the session what it was at a moment of it or of another session of the engine. See [`Session::back_to_async`].
    pub fn back_to(&mut self, mark: &Mark) -> Result<()> {
        block_on(self.back_to_async(mark))
    }

    /// The conversation's state at this moment: after the last chunk of a prompt, or after the last token given out.
    pub fn snapshot(&self) -> Result<Snapshot> {
        block_on(self.snapshot_async())
    }

    /// Goes on from a snapshot, in place of what this session has consumed. See [`Session::restore_async`].
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<Vec<Warning>> {
        block_on(self.restore_async(snapshot))
    }
}

impl Generation<'_> {
    /// The next token, or `None` at the end.
    pub fn next_id(&mut self) -> Result<Option<u32>> {
        block_on(self.next_id_async())
    }
}

impl Iterator for Answer<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        block_on(self.next_async())
    }
}
