//! One conversation.

use super::engine::Engine;
use crate::error::Result;
use crate::text::{Message, Span, TextStream};

/// One conversation over a slot of an engine. Dropping it frees the slot.
pub struct Session {
    engine: Engine,
    slot: usize,
    messages: Vec<Message>,
    /// The rendered conversation as far as the slot has consumed it.
    fed: String,
    /// Tokens that the slot is to have consumed when no answer is under way.
    position: u64,
}

/// How an answer came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    Eos,
    /// The limit of tokens was reached.
    Length,
    /// An error, which was given out.
    Failed,
}

/// Tokens as they are chosen. Dropping it early is fine: the slot is left as after the last token given out.
pub struct Generation<'a> {
    session: &'a mut Session,
    left: Option<usize>,
    shown: u64,
    finish: Option<Finish>,
    settled: bool,
}

impl Session {
    pub(super) fn new(engine: Engine, slot: usize) -> Self {
        Session { engine, slot, messages: vec![], fed: String::new(), position: 0 }
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

    /// Forgets everything: the state is as before the first token.
    pub fn clear(&mut self) -> Result<()> {
        self.engine.stepper().reset(self.slot)?;
        self.messages.clear();
        self.fed.clear();
        self.position = 0;
        Ok(())
    }

    /// Feeds tokens and continues them, up to `max_tokens` (`None`: until the model ends). `fed` is told the number of
    /// tokens of each chunk as it is done, and may stop by an error.
    pub fn generate(
        &mut self,
        ids: &[u32],
        max_tokens: Option<usize>,
        fed: impl FnMut(usize) -> Result<()>,
    ) -> Result<Generation<'_>> {
        let mut stepper = self.engine.stepper();
        let outcome = stepper.feed(self.slot, ids, fed);
        // Chunks that were fed stay fed, whatever happened then.
        self.position = stepper.position(self.slot);
        drop(stepper);
        outcome?;
        Ok(Generation { session: self, left: max_tokens, shown: 0, finish: None, settled: false })
    }

    /// Feeds plain text and streams what the model makes of it.
    pub fn complete(&mut self, ids: &[u32], max_tokens: Option<usize>) -> Result<Answer<'_>> {
        Ok(Answer { generation: self.generate(ids, max_tokens, |_| Ok(()))?, text: TextStream::default(), said: None })
    }

    /// Says something as the user and streams the assistant's answer.
    ///
    /// Only what the template adds to what was already fed is read. Where a template rewrites earlier turns, the
    /// conversation is read again from its start.
    pub fn send(&mut self, text: &str, max_tokens: Option<usize>) -> Result<Answer<'_>> {
        self.say(Message::new("user", text), max_tokens)
    }

    /// Sets the system prompt of a conversation that has not begun.
    pub fn system(&mut self, text: &str) {
        self.messages.retain(|message| message.role != "system");
        self.messages.insert(0, Message::new("system", text));
    }

    fn say(&mut self, message: Message, max_tokens: Option<usize>) -> Result<Answer<'_>> {
        self.messages.push(message);
        let prepared = self.prepare();
        let (ids, fed) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.messages.pop();
                return Err(error);
            }
        };
        self.fed = fed;
        let generation = self.generate(&ids, max_tokens, |_| Ok(()))?;
        Ok(Answer { generation, text: TextStream::default(), said: Some(String::new()) })
    }

    /// The ids that the conversation adds to what was fed, and the conversation as it will then be.
    fn prepare(&mut self) -> Result<(Vec<u32>, String)> {
        let checkpoint = self.engine.checkpoint();
        let spans = checkpoint.render(&self.messages, true)?;
        let whole: String = spans.iter().map(|span| span.text.as_str()).collect();
        let ids = match whole.strip_prefix(&self.fed) {
            Some(_) => checkpoint.encode(&after(&spans, self.fed.len()))?,
            None => {
                let ids = checkpoint.encode(&spans)?;
                self.engine.stepper().reset(self.slot)?;
                self.position = 0;
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
        self.engine.release(self.slot);
    }
}

impl Generation<'_> {
    /// The next token, or `None` at the end.
    pub fn next_id(&mut self) -> Result<Option<u32>> {
        if self.finish.is_some() {
            return Ok(None);
        }
        if self.left == Some(0) {
            self.finish = Some(Finish::Length);
            return self.settle().map(|()| None);
        }
        let slot = self.session.slot;
        let id = self.session.engine.stepper().next(slot)?;
        if self.session.engine.checkpoint().eos().contains(&id) {
            self.finish = Some(Finish::Eos);
            return self.settle().map(|()| None);
        }
        self.shown += 1;
        self.left = self.left.map(|left| left - 1);
        Ok(Some(id))
    }

    /// How it ended, once it has.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Leaves the slot as after the last token given out.
    fn settle(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.settled, true) {
            return Ok(());
        }
        let session = &mut *self.session;
        session.position += self.shown;
        session.engine.stepper().finish(session.slot, session.position)
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        // What fails here fails again, and is reported, at the next use of the device.
        let _ = self.settle();
    }
}

/// An answer's text as it comes, in whole characters.
pub struct Answer<'a> {
    generation: Generation<'a>,
    text: TextStream,
    /// What was said so far, where it is a turn of a conversation.
    said: Option<String>,
}

impl Answer<'_> {
    /// How it ended, once it has.
    pub fn finish(&self) -> Option<Finish> {
        self.generation.finish()
    }

    /// Tokens given out so far.
    pub fn tokens(&self) -> u64 {
        self.generation.shown
    }

    fn keep(&mut self, text: &str) {
        if let Some(said) = &mut self.said {
            *said += text;
        }
    }
}

impl Iterator for Answer<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let id = match self.generation.next_id() {
                Ok(Some(id)) => id,
                Ok(None) => {
                    let rest = self.text.finish();
                    self.keep(&rest);
                    return (!rest.is_empty()).then_some(Ok(rest));
                }
                Err(error) => {
                    self.generation.finish = Some(Finish::Failed);
                    return Some(Err(error));
                }
            };
            let text = {
                let tokenizer = match self.generation.session.engine.checkpoint().tokenizer() {
                    Ok(tokenizer) => tokenizer,
                    Err(error) => return Some(Err(error)),
                };
                if tokenizer.is_special(id) {
                    String::new()
                } else {
                    self.text.push(tokenizer.bytes(id).unwrap_or_default())
                }
            };
            if !text.is_empty() {
                self.keep(&text);
                return Some(Ok(text));
            }
        }
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        if let Some(said) = self.said.take() {
            let session = &mut *self.generation.session;
            session.fed += &said;
            session.messages.push(Message::new("assistant", said));
        }
    }
}
