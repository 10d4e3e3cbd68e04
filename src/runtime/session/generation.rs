//! Generation token by token, and the state that it leaves.

use super::Session;
use super::prompt::Begun;
use crate::error::Result;
use crate::kernels::select::WINDOW;
use crate::model::Saved;
use crate::runtime::backup::Backup;
use crate::text::{Grammar, Matching};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;

/// Options of one answer: its length, stop strings, log-probabilities, grammar.
///
/// ```
/// # use peregrine::AnswerOptions;
/// let options = AnswerOptions::tokens(200).stop(["\n\n"]).logprobs(3);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct AnswerOptions {
    /// Maximum number of tokens; `None`: until EOS.
    pub max_tokens: Option<usize>,
    /// Stop strings. They end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Return each token's log-probability together with those of this many most probable tokens. Reads back the logits of
    /// every step, which costs speed.
    pub logprobs: Option<usize>,
    /// What the whole text must match. The answer ends with [`Finish::Eos`] where the grammar ends; the other options may cut it off
    /// before. [`Prompt::Resume`](super::Prompt::Resume) with the same grammar goes on in it, except after a snapshot was restored.
    /// Tokens of the answer are not computed ahead, which costs speed.
    ///
    /// [`Checkpoint::grammar`](crate::Checkpoint::grammar) compiles one; without the feature `grammar` there are none.
    pub grammar: Option<Grammar>,
}

impl AnswerOptions {
    /// Options with a maximum number of tokens.
    pub fn tokens(max_tokens: usize) -> Self {
        AnswerOptions { max_tokens: Some(max_tokens), ..Default::default() }
    }

    /// Sets [`AnswerOptions::max_tokens`].
    pub fn max_tokens(self, max_tokens: impl Into<Option<usize>>) -> Self {
        AnswerOptions { max_tokens: max_tokens.into(), ..self }
    }

    /// Sets [`AnswerOptions::stop`].
    pub fn stop<S: Into<String>>(self, stop: impl IntoIterator<Item = S>) -> Self {
        AnswerOptions { stop: stop.into_iter().map(Into::into).collect(), ..self }
    }

    /// Sets [`AnswerOptions::logprobs`].
    pub fn logprobs(self, top: impl Into<Option<usize>>) -> Self {
        AnswerOptions { logprobs: top.into(), ..self }
    }

    /// Sets [`AnswerOptions::grammar`].
    pub fn grammar(self, grammar: impl Into<Option<Grammar>>) -> Self {
        AnswerOptions { grammar: grammar.into(), ..self }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// EOS, or another token that ends an answer, or the end of its grammar.
    Eos,
    /// The maximum number of tokens.
    Length,
    /// A stop string.
    Stop,
    /// A cancel, while the template was rendered, the prompt was read or tokens were generated.
    Cancelled,
    /// An error, which the iterator returned.
    Failed,
}

/// Natural log-probabilities of the model's distribution, before penalties, biases and sampling.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Of the chosen token.
    pub chosen: f64,
    /// The most probable tokens with theirs, best first.
    pub top: Vec<(u32, f64)>,
}

/// The session of a generation: borrowed or owned.
pub(super) enum SessionRef<'a> {
    Lent(&'a mut Session),
    Owned(Box<Session>),
}

impl<'a> From<&'a mut Session> for SessionRef<'a> {
    fn from(session: &'a mut Session) -> Self {
        SessionRef::Lent(session)
    }
}

impl Deref for SessionRef<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        match self {
            SessionRef::Lent(session) => session,
            SessionRef::Owned(session) => session,
        }
    }
}

impl DerefMut for SessionRef<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        match self {
            SessionRef::Lent(session) => session,
            SessionRef::Owned(session) => session,
        }
    }
}

/// Token ids as they are generated. It may be dropped at any time: the session is then as after the last token given out.
pub struct Generation<'a> {
    /// `None` once its owner took the session back.
    session: Option<SessionRef<'a>>,
    max_tokens: Option<usize>,
    /// See [`AnswerOptions::logprobs`].
    top: Option<usize>,
    /// Tokens given out.
    tokens: usize,
    /// The last of them: as many as penalties look at and a stop string may take back.
    ids: Vec<u32>,
    logprobs: Option<Logprobs>,
    finish: Option<Finish>,
    settled: bool,
    /// Device memory for a state to return to.
    saved: Option<Saved>,
    /// Tokens given out that the state in `saved` has consumed, if it holds one.
    point: Option<usize>,
    /// Tokens given out that the session's backup knows.
    backed: usize,
}

impl<'a> Generation<'a> {
    /// A generation that a session has begun.
    pub(super) fn begun(session: SessionRef<'a>, options: &AnswerOptions, begun: Begun) -> Self {
        let mut generation = Self::to_begin(session, options);
        generation.has_begun(begun);
        generation
    }

    /// A generation that its session has yet to begin.
    pub(super) fn to_begin(session: SessionRef<'a>, options: &AnswerOptions) -> Self {
        Generation {
            session: Some(session),
            max_tokens: options.max_tokens,
            top: options.logprobs,
            tokens: 0,
            ids: vec![],
            logprobs: None,
            finish: None,
            settled: true,
            saved: None,
            point: None,
            backed: 0,
        }
    }

    /// Records that the session has begun it.
    pub(super) fn has_begun(&mut self, begun: Begun) {
        match begun.cancelled {
            true => self.finish = Some(Finish::Cancelled),
            false => self.settled = false,
        }
    }

    pub(super) fn session(&self) -> &Session {
        self.session.as_ref().expect("it is taken when the generation is over")
    }

    pub(super) fn session_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("it is taken when the generation is over")
    }

    /// Ends it and takes the session out; returns it if it was owned.
    pub(super) fn take_session(&mut self) -> Option<Session> {
        self.settle();
        match self.session.take()? {
            SessionRef::Owned(session) => Some(*session),
            SessionRef::Lent(_) => None,
        }
    }

    /// The next token, or `None` at the end.
    pub async fn next_id_async(&mut self) -> Result<Option<u32>> {
        if self.finish.is_some() {
            return Ok(None);
        }
        if self.max_tokens.is_some_and(|most| self.tokens >= most) {
            return self.end(Finish::Length).await;
        }
        if self.session().cancelled.load(Ordering::Relaxed) {
            return self.end(Finish::Cancelled).await;
        }
        let grammar_is_over = |session: &Session| session.conversation.matching.as_ref().is_some_and(Matching::is_over);
        if grammar_is_over(self.session()) {
            return self.end(Finish::Eos).await;
        }
        let bias = self.bias().inspect_err(|_| self.finish = Some(Finish::Failed))?;
        let session = self.session();
        let next = session.engine.next(session.slot, bias.as_deref()).await;
        let token = next.inspect_err(|_| self.finish = Some(Finish::Failed))?;
        let id = token.id;
        if self.session().engine.checkpoint().eos().contains(&id) {
            return self.end(Finish::Eos).await;
        }
        if let Some(matching) = &mut self.session_mut().conversation.matching {
            matching.take(id).inspect_err(|_| self.finish = Some(Finish::Failed))?;
        }
        self.logprobs = self.top.zip(token.logits).map(|(top, logits)| logprobs(&logits, id, top));
        if self.ids.len() >= 2 * WINDOW && self.point.is_none() && self.session().conversation.ids.is_none() {
            self.ids.drain(..WINDOW);
        }
        self.ids.push(id);
        self.tokens += 1;
        if self.point.is_none() && self.session().backup.is_due(self.tokens - self.backed) {
            self.back_up().await;
        }
        Ok(Some(id))
    }

    /// With a grammar: the slot's bias for the choice after the last token given out. The one for the first choice is set already.
    fn bias(&mut self) -> Result<Option<Vec<f32>>> {
        let tokens = self.tokens;
        if tokens == 0 {
            return Ok(None);
        }
        let session = self.session_mut();
        let Some(mut matching) = session.conversation.matching.take() else { return Ok(None) };
        let bias = session.bias_in(&mut matching, session.position() + tokens as u64);
        session.conversation.matching = Some(matching);
        bias.map(Some)
    }

    /// Reads the state before the last token given out into the session's backup. If that fails, the tokens are appended to it.
    async fn back_up(&mut self) {
        let consumed = self.tokens - 1;
        let session = self.session();
        let position = session.position() + consumed as u64;
        let read = match session.schedule_of_answer().await {
            Ok(mut scheduler) => Backup::of(&mut scheduler, session.slot, position).await,
            Err(error) => Err(error),
        };
        let since = self.ids.len() - (self.tokens - self.backed)..self.ids.len() - 1;
        let session = self.session.as_mut().expect("it is taken when the generation is over");
        match read {
            Ok(backup) => session.backup = backup,
            Err(_) => session.backup.chose(&self.ids[since]),
        }
        self.backed = consumed;
    }

    /// Ends with an error that is not the scheduler's.
    pub(super) fn fail(&mut self) {
        self.finish = Some(Finish::Failed);
    }

    /// The log-probabilities of the last token given out, if [`AnswerOptions::logprobs`] asked for them.
    pub fn logprobs(&self) -> Option<&Logprobs> {
        self.logprobs.as_ref()
    }

    /// Number of tokens given out.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The tokens given out; at least the last 4096 of a longer answer, so that memory stays bounded.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Why it ended; `None` while it goes on.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    async fn end(&mut self, finish: Finish) -> Result<Option<u32>> {
        self.finish = Some(finish);
        self.settle();
        // Does the queued cleanup of the slot now: the caller waits anyway.
        drop(self.session().engine.scheduler().await);
        Ok(None)
    }

    /// Saves the state before the last token given out, which a stop string may take back.
    pub(super) async fn keep_before_last(&mut self) -> Result<()> {
        let consumed = self.tokens - 1;
        let session = self.session.as_ref().expect("it is taken when the generation is over");
        let position = session.position() + consumed as u64;
        session.schedule_of_answer().await?.save(session.slot, position, &mut self.saved)?;
        self.point = Some(consumed);
        Ok(())
    }

    /// Tokens that the saved state has consumed, if there is one.
    pub(super) fn kept(&self) -> Option<usize> {
        self.point
    }

    /// Drops the saved state.
    pub(super) fn let_go(&mut self) {
        self.point = None;
    }

    /// Ends as if only the first `count` tokens had been given out. Takes back the last token, or restores the saved state and
    /// replays the tokens after it.
    pub(super) async fn end_after(&mut self, count: usize) {
        self.finish = Some(Finish::Stop);
        let session = self.session();
        if let (Some(point), Some(saved)) = (self.point.filter(|point| *point <= count), &self.saved)
            && count + 1 < self.tokens
        {
            let from = (saved, session.position() + point as u64);
            let last = self.ids.len() + point - self.tokens;
            let again = &self.ids[last..last + count - point];
            let back = match session.schedule_of_answer().await {
                Ok(mut scheduler) => scheduler.rewind(session.slot, from, again).await,
                Err(error) => Err(error),
            };
            let _ = back.inspect_err(|_| session.doubt());
        }
        self.ids.truncate(self.ids.len() + count - self.tokens);
        self.tokens = count;
        self.settle();
    }

    /// Brings the session to the last token given out, and queues the same for its slot.
    fn settle(&mut self) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let ended = matches!(self.finish, Some(Finish::Eos | Finish::Stop));
        let session = self.session.as_mut().expect("it is taken when the generation is over");
        session.conversation.consume(&self.ids, self.tokens);
        session.conversation.ended = ended;
        session.history.prefix.chose(&self.ids, self.tokens);
        session.backup.chose(&self.ids[self.ids.len() - (self.tokens - self.backed)..]);
        let matching = session.conversation.matching.take();
        session.leave_answer(self.ids.last().copied(), matching.as_ref().map(Matching::grammar));
        session.conversation.matching = matching.filter(|_| !ended);
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        // A generation without a session is settled.
        self.settle();
    }
}

/// Log-softmax of the chosen token and of the `top` best.
pub(super) fn logprobs(logits: &[f32], chosen: u32, top: usize) -> Logprobs {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|v| f64::from(v - largest).exp()).sum();
    let of = |v: f32| f64::from(v - largest) - sum.ln();
    let mut order: Vec<u32> = (0..u32::try_from(logits.len()).expect("a vocabulary fits")).collect();
    let best_first = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let top = top.min(order.len());
    if top > 0 {
        order.select_nth_unstable_by(top - 1, best_first);
    }
    order.truncate(top);
    order.sort_by(best_first);
    Logprobs {
        chosen: of(logits[chosen as usize]),
        top: order.into_iter().map(|id| (id, of(logits[id as usize]))).collect(),
    }
}
