//! Blocking forms of the calls of engines and sessions: each runs its async form to the end on this thread.

use super::{
    Answer, AnswerOptions, Checkpoint, Engine, EngineOptions, Generation, Logprobs, Mark, Prompt, Sampling, Session,
    Snapshot, StateBudget, Warning,
};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::model::Progress;
use crate::text::Message;
use pollster::block_on;

impl Engine {
    /// Blocking [`Engine::check_snapshot_async`].
    pub fn check_snapshot(&self, snapshot: &Snapshot) -> Result<Vec<Warning>> {
        block_on(self.check_snapshot_async(snapshot))
    }

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
    /// Sends a message as the user and streams the assistant's answer.
    ///
    /// Only the text that the template adds is fed. If the template changes earlier text, the conversation is read again from
    /// its start. After an error, or a cancel before the answer began, the conversation is as before.
    ///
    /// ```no_run
    /// # fn f(session: &mut peregrine::Session) -> peregrine::Result<()> {
    /// use peregrine::AnswerOptions;
    /// for piece in session.send("What is a falcon?", &AnswerOptions::tokens(200))? {
    ///     print!("{}", piece?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn send(&mut self, text: &str, options: &AnswerOptions) -> Result<Answer<'_>> {
        block_on(self.answer_async(Prompt::Message(text.to_owned()), options))
    }

    /// Replaces the conversation by these messages and streams the assistant's answer. The part that they share with what was fed
    /// is not read again. After an error, or a cancel before the answer began, the conversation is as before.
    pub fn converse(&mut self, messages: Vec<Message>, options: &AnswerOptions) -> Result<Answer<'_>> {
        block_on(self.answer_async(Prompt::Messages(messages), options))
    }

    /// Feeds plain text, as ids, and streams the generated text.
    pub fn complete(&mut self, ids: &[u32], options: &AnswerOptions) -> Result<Answer<'_>> {
        block_on(self.answer_async(Prompt::Ids(ids.to_vec()), options))
    }

    /// Continues the last answer after its token limit or a cancel, without feeding anything: the tokens are the same as without
    /// the interruption.
    pub fn resume(&mut self, options: &AnswerOptions) -> Result<Answer<'_>> {
        block_on(self.answer_async(Prompt::Resume, options))
    }

    /// Replaces the answer to the user's last message by a new one, generated from the state after that message. With the same
    /// seed the answer is the same. If that state is no longer kept, the conversation is read again. After an error, or a cancel
    /// before the answer began, the old answer stays.
    pub fn retry(&mut self, options: &AnswerOptions) -> Result<Answer<'_>> {
        block_on(self.answer_async(Prompt::Retry, options))
    }

    /// Blocking [`Session::read_conversation_async`].
    pub fn read_conversation(&mut self, messages: Vec<Message>) -> Result<()> {
        block_on(self.read_conversation_async(messages))
    }

    /// Feeds tokens without generating. See [`Session::feed_async`].
    pub fn feed(&mut self, ids: &[u32]) -> Result<()> {
        block_on(self.feed_async(ids))
    }

    /// Blocking [`Session::score_async`].
    pub fn score(&mut self, ids: &[u32], top: usize) -> Result<Vec<Logprobs>> {
        block_on(self.score_async(ids, top))
    }

    /// Blocking [`Session::logits_async`].
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        block_on(self.logits_async(ids))
    }

    /// Feeds tokens and generates after them, id by id. See [`Session::generate_async`].
    pub fn generate(&mut self, ids: &[u32], options: &AnswerOptions) -> Result<Generation<'_>> {
        block_on(self.generate_async(ids, options))
    }

    /// Changes how tokens are chosen from the next answer on. After an error it is as before.
    pub fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        block_on(self.set_sampling_async(sampling))
    }

    /// Clears the conversation and resets the state. See [`Session::clear_async`].
    pub fn clear(&mut self) -> Result<()> {
        block_on(self.clear_async())
    }

    /// Removes the user's last message and its answer; returns the message. See [`Session::undo_async`].
    pub fn undo(&mut self) -> Result<Message> {
        block_on(self.undo_async())
    }

    /// A copy of this session in a free slot. The two are independent. See [`Session::fork_async`].
    pub fn fork(&self) -> Result<Session> {
        block_on(self.fork_async())
    }

    /// The current moment, for [`Session::back_to`].
    pub fn mark(&self) -> Result<Mark> {
        block_on(self.mark_async())
    }

    /// Goes back to a moment of this session, or to one of another session of the engine. See [`Session::back_to_async`].
    pub fn back_to(&mut self, mark: &Mark) -> Result<()> {
        block_on(self.back_to_async(mark))
    }

    /// The conversation with its state: after the last chunk of a prompt, or after the last token given out.
    pub fn snapshot(&self) -> Result<Snapshot> {
        block_on(self.snapshot_async())
    }

    /// Continues from a snapshot, which replaces this session's conversation. See [`Session::restore_async`].
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
