//! What an answer continues, and how it begins.

use super::Session;
use super::answer::{Answer, Role};
use super::generation::{AnswerOptions, Generation};
use super::history::Before;
use crate::error::{Error, Result};
use crate::runtime::scheduler::Start;
use crate::text::{Matching, Message, Span};

/// What an answer continues.
///
/// ```no_run
/// # fn f(mut session: peregrine::Session) -> peregrine::Result<()> {
/// use peregrine::{AnswerOptions, Prompt};
/// let mut answer = session.into_answer(Prompt::Message("Hello!".into()), &AnswerOptions::tokens(20));
/// let text: String = answer.by_ref().collect::<Result<_, _>>()?;
/// session = answer.into_session().expect("the answer owned it");
/// let mut rest = session.into_answer(Prompt::Resume, &AnswerOptions::default());
/// # Ok(())
/// # }
/// ```
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

impl Session {
    /// Feeds tokens and generates after them; without any, after what was consumed before. After a cancel, the chunks fed so far
    /// stay fed.
    pub async fn generate_async(&mut self, ids: &[u32], options: &AnswerOptions) -> Result<Generation<'_>> {
        let begun = self.begin_ids(ids, options).await?;
        Ok(Generation::begun(self.into(), options, begun))
    }

    /// Begins an answer and streams it. If it cannot begin or is cancelled before, the conversation is as before; with
    /// [`Prompt::Ids`], what was fed stays fed.
    pub async fn answer_async(&mut self, prompt: Prompt, options: &AnswerOptions) -> Result<Answer<'_>> {
        let begun = self.begin_prompt(prompt, options).await?;
        Ok(Answer::begun(self.into(), options, begun))
    }

    /// An answer that owns the session and can move to another thread or task. It begins when its first piece is asked for; if
    /// it cannot begin, the error is that piece. A cancel counts from this call on. [`Answer::into_session`] returns the session.
    pub fn into_answer(mut self, prompt: Prompt, options: &AnswerOptions) -> Answer<'static> {
        self.begin_call_early();
        Answer::to_begin(self, prompt, options)
    }

    pub(super) async fn begin_prompt(&mut self, prompt: Prompt, options: &AnswerOptions) -> Result<Begun> {
        match prompt {
            Prompt::Message(text) => {
                self.begin_message(|messages| messages.push(Message::new("user", text)), options).await
            }
            Prompt::Messages(messages) => self.begin_message(|all| *all = messages, options).await,
            Prompt::Ids(ids) => self.begin_ids(&ids, options).await,
            Prompt::Resume => self.begin_resume(options).await,
            Prompt::Retry => self.begin_retry(options).await,
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

    async fn begin_resume(&mut self, options: &AnswerOptions) -> Result<Begun> {
        if self.conversation.ended || self.position() == 0 {
            return Err(Error::NothingToResume);
        }
        self.begin_call();
        self.read_again = false;
        let matching = self.conversation.matching.take();
        let role = match self.messages().last() {
            Some(message) if message.role == "assistant" => Role::RestOfMessage,
            Some(message) if message.role == "user" => Role::Message,
            _ => Role::None,
        };
        // The same grammar goes on; another one begins.
        let goes_on = matching.as_ref().map(Matching::grammar) == options.grammar.as_ref();
        let begun = match (&matching, &options.grammar) {
            (Some(_), Some(_)) if goes_on => self.begin_in(matching.clone(), options).await,
            _ => self.begin(options).await,
        };
        // After an error the session is as before.
        begun.inspect_err(|_| self.conversation.matching = matching)?;
        Ok(Begun::of(role))
    }

    /// Applies `change` to the messages, reads them, and begins the answer.
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

    async fn begin_retry(&mut self, options: &AnswerOptions) -> Result<Begun> {
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

    /// Begins the assistant's message after the conversation was read. If either failed, the session is put back to `before`.
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

    /// Starts generation at the beginning of the answer's grammar, if it has one, and waits for the first token.
    async fn begin(&mut self, options: &AnswerOptions) -> Result<()> {
        let matching = options.grammar.as_ref().map(Matching::of);
        self.begin_in(matching, options).await
    }

    /// Starts generation at this place of a grammar, or without one, and waits for the first token.
    async fn begin_in(&mut self, mut matching: Option<Matching>, options: &AnswerOptions) -> Result<()> {
        let bias = matching.as_mut().filter(|matching| !matching.is_over());
        let bias = bias.map(|matching| self.bias_in(matching, self.position())).transpose()?;
        let grammar = matching.as_ref().map(Matching::grammar);
        let scheduler = self.schedule().await?;
        let doubt = self.doubt_on_drop();
        let recent = (self.conversation.recent(), self.window());
        let start = Start { recent, with_logits: options.logprobs.is_some(), bias };
        let begun = self.engine.begin(scheduler, self.slot, start).await;
        doubt.finished();
        if begun.is_err() && grammar.is_some() {
            self.leave_answer(None, grammar);
        }
        begun?;
        self.conversation.matching = matching;
        self.conversation.ended = false;
        Ok(())
    }

    /// The slot's bias `[V]` for the choice at this place of a grammar, after `position` tokens.
    pub(super) fn bias_in(&self, matching: &mut Matching, position: u64) -> Result<Vec<f32>> {
        let mut bias = self.engine.bias(&self.sampling);
        matching.mask(&mut bias)?;
        let any = bias.iter().any(|bias| *bias > f32::NEG_INFINITY);
        if any { Ok(bias) } else { Err(Error::AllBanned { position }) }
    }

    /// Reads a whole conversation without an answer: an answer that follows it, here or from a snapshot, begins at once. After an
    /// error or a cancel the conversation is as before.
    pub async fn read_conversation_async(&mut self, messages: Vec<Message>) -> Result<()> {
        self.begin_call();
        self.remember().await?;
        let before = self.before().await?;
        self.conversation.messages = messages;
        match self.read_rendered(false).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.return_to(before).await;
                Err(error)
            }
        }
    }

    /// Feeds what the messages add to what was fed, up to where the assistant's message begins.
    async fn read_messages(&mut self) -> Result<()> {
        self.read_rendered(true).await
    }

    /// Feeds what the messages add to what was fed. `answer_next`: with the beginning of the assistant's next message.
    async fn read_rendered(&mut self, answer_next: bool) -> Result<()> {
        let (ids, text) = self.render(answer_next)?;
        self.read(&ids).await?;
        self.conversation.text = text;
        self.remember().await
    }

    /// Renders the messages: the ids to feed, and the whole text.
    fn render(&mut self, answer_next: bool) -> Result<(Vec<u32>, String)> {
        let checkpoint = self.engine.checkpoint();
        let spans = checkpoint.render_unless(&self.cancelled, &self.conversation.messages, answer_next)?;
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

/// The spans without their first `bytes` bytes, which end on a character boundary.
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
