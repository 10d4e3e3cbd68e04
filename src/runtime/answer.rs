//! An answer's text as it comes.

use super::generation::{AnswerOptions, Finish, Generation, Logprobs, SessionRef};
use super::session::{Begun, Prompt, Session};
use crate::error::{Error, Result};
use crate::text::{Message, StopStrings, TextStream};

/// An answer's text as it comes, in whole characters and without stop strings. When it ends, or is dropped, the state is that
/// of the last token whose text was given out.
///
/// It borrows its session, or owns it: an `Answer<'static>` of [`Session::into_answer`] can be moved to another thread or task,
/// polled there, stopped by a [`CancelHandle`](super::CancelHandle) and dropped anywhere.
pub struct Answer<'a> {
    generation: Generation<'a>,
    options: AnswerOptions,
    /// What it answers, where it has not begun.
    prompt: Option<Prompt>,
    /// Whether it has begun and its text is not yet a part of the conversation.
    open: bool,
    characters: TextStream,
    stops: StopStrings,
    /// What was given out, where it is to become a message.
    said: String,
    /// Bytes that were given out.
    shown: usize,
    /// Bytes of text that all tokens so far have made, given out or held back.
    made: usize,
    /// Bytes of text made when the kept state was kept: all of it had been given out.
    kept: usize,
    /// After each token since then: how many tokens, how many bytes of text; where no character was open.
    ends: Vec<(usize, usize)>,
    /// Bytes of `said` that the state has consumed, where it ended inside of a token.
    consumed: Option<usize>,
    /// Tokens with their log-probabilities, where those are wanted, until somebody takes them.
    chosen: Vec<Chosen>,
    role: Role,
    /// What went wrong after the last text.
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

/// What an answer is to the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// No part of it.
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

    /// The session that it belongs to.
    pub fn session(&self) -> &Session {
        self.generation.session()
    }

    /// Ends it and gives its session back: `None` where that was only lent.
    pub fn into_session(mut self) -> Option<Session> {
        self.conclude();
        self.generation.take_session()
    }

    /// How it ended, once it has.
    pub fn finish(&self) -> Option<Finish> {
        self.generation.finish()
    }

    /// The tokens given out so far.
    pub fn generation(&self) -> &Generation<'a> {
        &self.generation
    }

    /// Takes the tokens of what was given out, where [`AnswerOptions::logprobs`] asks for them. A token that a stop string begins
    /// inside of is one of them.
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

    /// Takes a token; gives what can be shown of it.
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

    /// A stop string has come: back to the last token that lies wholly before it. `before` is the text made before the
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

    /// The next piece of text, or `None` at the end. After an error there is no more.
    pub async fn next_async(&mut self) -> Option<Result<String>> {
        if let Some(prompt) = self.prompt.take() {
            let begun = self.generation.session_mut().begin_prompt(prompt, &self.options).await;
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
                    // What was held back is text after all; a character may still become whole where the answer can go on.
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
    /// One that begins when its first piece is asked for.
    pub(super) fn to_begin(session: Session, prompt: Prompt, options: &AnswerOptions) -> Self {
        Self::new(SessionRef::Owned(Box::new(session)), options, Some(prompt))
    }
}

impl Answer<'_> {
    /// Makes what was said a part of the conversation.
    fn conclude(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        // Held back, but consumed: the conversation must say what the state holds.
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
