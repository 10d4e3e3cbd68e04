//! An answer as a stream of text.

use super::Session;
use super::generation::{AnswerOptions, Finish, Generation, Logprobs, SessionRef};
use super::prompt::{Begun, Prompt};
use crate::error::{Error, Result};
use crate::text::{Message, StopStrings, TextStream};

/// An answer as a stream of text, in whole characters and without stop strings. When it ends or is dropped, the session's state
/// is that of the last token whose text was given out.
///
/// It borrows its session or owns it. An `Answer<'static>` from [`Session::into_answer`] can move to another thread or task, be
/// polled there, cancelled by a [`CancelHandle`](crate::CancelHandle) and dropped anywhere.
///
/// ```no_run
/// # async fn f(session: peregrine::Session) -> peregrine::Result<()> {
/// use peregrine::{AnswerOptions, Finish, Prompt};
/// let mut answer = session.into_answer(Prompt::Message("Hello!".into()), &AnswerOptions::default());
/// while let Some(piece) = answer.next_async().await {
///     print!("{}", piece?);
/// }
/// assert_eq!(answer.finish(), Some(Finish::Eos));
/// # Ok(())
/// # }
/// ```
pub struct Answer<'a> {
    generation: Generation<'a>,
    options: AnswerOptions,
    /// What it answers, until it begins.
    prompt: Option<Prompt>,
    /// Whether it has begun and its text is not yet part of the conversation.
    open: bool,
    characters: TextStream,
    stops: StopStrings,
    /// Text given out, if it becomes part of a message.
    said: String,
    /// Bytes given out.
    shown: usize,
    /// Bytes of text of all tokens so far, given out or held back.
    made: usize,
    /// Bytes of text before the saved state: all of them had been given out.
    kept: usize,
    /// (tokens, bytes of text) after each token since then that ended on a whole character.
    ends: Vec<(usize, usize)>,
    /// Bytes of `said` that the state has consumed, if the answer ended inside a token.
    consumed: Option<usize>,
    /// Tokens with their log-probabilities, if wanted, until [`Answer::take_chosen`].
    chosen: Vec<Chosen>,
    role: Role,
    /// An error to return after the last text.
    failed: Option<Error>,
}

/// A token of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The token.
    pub id: u32,
    /// Its log-probability, and those of others.
    pub logprobs: Logprobs,
    /// Bytes of the answer's text before the character that it begins in.
    pub at: usize,
}

/// What an answer adds to the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing: it continues plain text.
    None,
    /// A message of the assistant.
    Message,
    /// The rest of the assistant's last message, which was cut off.
    RestOfMessage,
}

impl<'a> Answer<'a> {
    /// An answer that a session has begun.
    pub(super) fn begun(session: SessionRef<'a>, options: &AnswerOptions, begun: Begun) -> Self {
        let mut answer = Self::new(session, options, None);
        answer.has_begun(begun);
        answer
    }

    fn new(session: SessionRef<'a>, options: &AnswerOptions, prompt: Option<Prompt>) -> Self {
        Answer {
            generation: Generation::to_begin(session, options),
            options: options.clone(),
            prompt,
            open: false,
            characters: TextStream::after(vec![]),
            stops: StopStrings::new(&options.stop),
            said: String::new(),
            shown: 0,
            made: 0,
            kept: 0,
            ends: vec![],
            consumed: None,
            chosen: vec![],
            role: Role::None,
            failed: None,
        }
    }

    fn has_begun(&mut self, begun: Begun) {
        self.generation.has_begun(begun);
        (self.role, self.open) = (begun.role, true);
        let unfinished = std::mem::take(&mut self.generation.session_mut().conversation.unfinished);
        self.characters = TextStream::after(unfinished);
    }

    /// Its session.
    pub fn session(&self) -> &Session {
        self.generation.session()
    }

    /// Ends it and returns its session; `None` if that was borrowed.
    pub fn into_session(mut self) -> Option<Session> {
        self.conclude();
        self.generation.take_session()
    }

    /// Why it ended; `None` while it goes on.
    pub fn finish(&self) -> Option<Finish> {
        self.generation.finish()
    }

    /// Its token ids.
    pub fn generation(&self) -> &Generation<'a> {
        &self.generation
    }

    /// Takes the tokens of the text given out since the last call, if [`AnswerOptions::logprobs`] asked for them, including a
    /// token that a stop string begins in.
    pub fn take_chosen(&mut self) -> Vec<Chosen> {
        let all = self.finish().is_some_and(|finish| finish != Finish::Stop);
        let shown = self.chosen.partition_point(|token| token.at < self.shown);
        self.chosen.drain(..if all { self.chosen.len() } else { shown }).collect()
    }

    fn say(&mut self, text: &str) {
        self.shown += text.len();
        if self.role != Role::None {
            self.said += text;
        }
    }

    /// Adds a token; returns the text that can be given out.
    async fn take(&mut self, id: u32) -> Result<String> {
        let before = self.made;
        if let Some(logprobs) = self.generation.logprobs() {
            self.chosen.push(Chosen { id, logprobs: logprobs.clone(), at: before });
        }
        let text = {
            let tokenizer = self.generation.session().engine.checkpoint().tokenizer()?;
            let bytes = if tokenizer.is_special(id) { &[] } else { tokenizer.bytes(id).unwrap_or_default() };
            self.characters.push(bytes)
        };
        self.made += text.len();
        if self.stops.is_empty() {
            self.say(&text);
            return Ok(text);
        }
        let (shown, found) = self.stops.push(&text);
        self.say(&shown);
        let tokens = self.generation.tokens();
        if found {
            self.stop(tokens, before).await;
        } else if self.stops.held() == 0 && self.characters.pending().is_empty() {
            self.ends.clear();
            self.generation.let_go();
        } else {
            if self.generation.kept().is_none() {
                self.failed = self.generation.keep_before_last().await.err();
                self.kept = before;
            }
            if self.characters.pending().is_empty() {
                self.ends.push((tokens, self.made));
            }
        }
        Ok(shown)
    }

    /// Ends at a stop string: goes back to the last token that lies wholly before it. `before` is the text in bytes before the
    /// newest token.
    async fn stop(&mut self, tokens: usize, before: usize) {
        let whole = self.ends.iter().rev().find(|(_, made)| *made <= self.shown);
        let (count, consumed) = match (whole, self.generation.kept()) {
            (Some(end), _) => *end,
            (None, Some(kept)) => (kept, self.kept),
            (None, None) => (tokens - 1, before),
        };
        self.consumed = Some(consumed);
        self.generation.end_after(count).await;
    }

    /// The next piece of text; `None` at the end and after an error.
    pub async fn next_async(&mut self) -> Option<Result<String>> {
        if let Some(prompt) = self.prompt.take() {
            let session = self.generation.session_mut();
            let begun = session.begin_prompt(prompt, &self.options).await;
            session.no_early_call();
            match begun {
                Ok(begun) => self.has_begun(begun),
                Err(error) => self.failed = Some(error),
            }
        }
        loop {
            if let Some(error) = self.failed.take() {
                self.generation.fail();
                return Some(Err(error));
            }
            let text = match self.generation.next_id_async().await {
                Ok(Some(id)) => self.take(id).await,
                Ok(None) => {
                    if self.finish() == Some(Finish::Stop) {
                        return None;
                    }
                    // Text held back for a stop string is given out. An incomplete character is only flushed at EOS: a
                    // resumed answer may complete it.
                    let ended = self.finish() == Some(Finish::Eos);
                    let open = if ended { self.characters.finish() } else { String::new() };
                    let (mut rest, _) = self.stops.push(&open);
                    rest += &self.stops.finish();
                    self.say(&rest);
                    return (!rest.is_empty()).then_some(Ok(rest));
                }
                Err(error) => Err(error),
            };
            match text {
                Ok(text) if text.is_empty() && self.finish().is_none() => {}
                Ok(text) if text.is_empty() => return None,
                other => return Some(other),
            }
        }
    }
}

impl Answer<'static> {
    /// An answer that begins when its first piece is asked for.
    pub(super) fn to_begin(session: Session, prompt: Prompt, options: &AnswerOptions) -> Self {
        Self::new(SessionRef::Owned(Box::new(session)), options, Some(prompt))
    }
}

impl Answer<'_> {
    /// Adds the text to the conversation.
    fn conclude(&mut self) {
        if self.prompt.take().is_some() {
            self.generation.session_mut().no_early_call();
        }
        if !std::mem::take(&mut self.open) {
            return;
        }
        // Text held back was consumed by the state, so it belongs to the conversation.
        let held = self.stops.finish();
        if self.finish() != Some(Finish::Stop) {
            self.say(&held);
        }
        let ended = matches!(self.finish(), Some(Finish::Eos | Finish::Stop));
        let pending = self.characters.pending().to_vec();
        let (role, said) = (self.role, std::mem::take(&mut self.said));
        let conversation = &mut self.generation.session_mut().conversation;
        if !ended {
            conversation.unfinished = pending;
        }
        if role != Role::None {
            conversation.text += &said[..self.consumed.unwrap_or(said.len())];
        }
        match (role, conversation.messages.last_mut()) {
            (Role::None, _) => {}
            (Role::RestOfMessage, Some(message)) => message.content += &said,
            _ => conversation.messages.push(Message::new("assistant", said)),
        }
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.conclude();
    }
}
