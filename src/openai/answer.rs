//! Running a request in a session.

use super::request::Request;
use super::tools::calls::{CallReader, Parsed, ToolCall};
use crate::error::{Error, Result};
use crate::runtime::{Answer, AnswerOptions, Chosen, Finish, Logprobs, Mark, Prompt, Session, Snapshot};

/// Values for what neither the request nor the model sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestDefaults {
    /// Maximum tokens of an answer; `None` for no limit.
    pub max_tokens: Option<usize>,
    /// Random seed.
    pub seed: u64,
}

/// The answers to a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Completion {
    /// One per answer, in the order of the prompts and of the answers to each.
    pub choices: Vec<Choice>,
    /// Tokens of the prompts, each counted once.
    pub prompt_tokens: u64,
    /// Generated tokens of all answers.
    pub completion_tokens: u64,
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The prompt, if the request asks for it.
    pub echo: Option<Echo>,
    /// The answer's text, without calls of tools.
    pub text: String,
    /// The tools that the answer calls.
    pub calls: Vec<ToolCall>,
    /// Why the answer ended.
    pub finish: Finish,
    /// Its tokens with log-probabilities, if the request asks for them.
    pub logprobs: Option<Vec<Chosen>>,
}

/// A prompt that is part of its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Echo {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// The log-probability of each token but the first, if the request asks for them.
    pub logprobs: Option<Vec<Logprobs>>,
}

/// What a request's prompts follow.
#[derive(Debug, Clone, Copy, Default)]
pub enum Start<'a> {
    /// Nothing. The session is cleared for each prompt.
    #[default]
    Empty,
    /// A conversation that the session keeps: that of a state, or an empty one. The request's messages or text follow it; without
    /// messages, an answer that was cut off goes on. See [`Request::is_one_answer`].
    Conversation(Option<&'a Snapshot>),
}

/// A step of answering a request. Answers come one after the other: all events of a choice before those of the next.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A prompt of this many tokens was read.
    Read(u64),
    /// The prompt, as the beginning of the answer `choice`.
    Echo {
        /// The answer, from 0.
        choice: usize,
        /// The prompt.
        echo: Echo,
    },
    /// Text of the answer `choice`.
    Piece {
        /// The answer, from 0.
        choice: usize,
        /// The next part of its text.
        text: String,
        /// The tokens that end in this text, if the request asks for log-probabilities.
        logprobs: Option<Vec<Chosen>>,
    },
    /// A call of a tool in the answer `choice`.
    Call {
        /// The answer, from 0.
        choice: usize,
        /// The call.
        call: ToolCall,
    },
    /// The answer `choice` is complete.
    Ended {
        /// The answer, from 0.
        choice: usize,
        /// Why it ended.
        finish: Finish,
        /// Its tokens.
        tokens: u64,
    },
}

impl Request {
    /// Runs the request in a session and collects its events.
    pub async fn answer_async(&self, session: &mut Session, defaults: RequestDefaults) -> Result<Completion> {
        let mut completion = Completion::default();
        self.events_async(session, defaults, Start::Empty, &mut |event| completion.add(event)).await?;
        Ok(completion)
    }

    /// Runs the request in a session. `each` gets the events as they occur. Each prompt is read once for all its answers.
    /// Cancellation gives [`Error::Cancelled`].
    pub async fn events_async(
        &self,
        session: &mut Session,
        defaults: RequestDefaults,
        start: Start<'_>,
        each: &mut dyn FnMut(Event),
    ) -> Result<()> {
        if let Start::Conversation(from) = start {
            return self.continue_async(session, defaults, from, each).await;
        }
        let engine = session.engine().clone();
        let checkpoint = engine.checkpoint();
        let options = self.options(checkpoint, defaults.max_tokens)?;
        let mut choice = 0;
        for ids in self.prompts(checkpoint)? {
            let (mut read, mut scores) = (None, None);
            for index in 0..self.answers() {
                session.set_sampling_async(self.sampling(checkpoint, defaults.seed, index)).await?;
                match (&read, options.logprobs.filter(|_| self.echoes())) {
                    (Some(read), _) => go_back(session, read, &ids).await?,
                    (None, None) => read_prompt(session, &ids).await?,
                    (None, Some(top)) => {
                        session.clear_async().await?;
                        scores = Some(session.score_async(&ids, top).await?);
                    }
                }
                if index == 0 {
                    each(Event::Read(ids.len() as u64));
                }
                if self.echoes() {
                    let text = checkpoint.tokenizer()?.decode(&ids);
                    let echo = Echo { text, ids: ids.clone(), logprobs: scores.clone() };
                    each(Event::Echo { choice, echo });
                }
                if read.is_none() && self.answers() > 1 {
                    read = Some(session.mark_async().await?);
                }
                let answer = session.answer_async(Prompt::Ids(vec![]), &options).await?;
                give_out(answer, choice, &options, self.call_reader(checkpoint), each).await?;
                choice += 1;
            }
        }
        Ok(())
    }

    /// Answers once, as a part of a conversation that the session keeps.
    async fn continue_async(
        &self,
        session: &mut Session,
        defaults: RequestDefaults,
        from: Option<&Snapshot>,
        each: &mut dyn FnMut(Event),
    ) -> Result<()> {
        let engine = session.engine().clone();
        let checkpoint = engine.checkpoint();
        let options = self.options(checkpoint, defaults.max_tokens)?;
        match from {
            Some(snapshot) => drop(session.restore_async(snapshot).await?),
            None => session.clear_async().await?,
        }
        session.set_sampling_async(self.sampling(checkpoint, defaults.seed, 0)).await?;
        let before = session.position();
        let prompt = self.continuation(checkpoint, session)?;
        let answer = session.answer_async(prompt, &options).await?;
        // A conversation whose earlier text changes when it is rendered again is read from its start.
        each(Event::Read(answer.session().position().saturating_sub(before)));
        give_out(answer, 0, &options, None, each).await
    }
}

async fn read_prompt(session: &mut Session, ids: &[u32]) -> Result<()> {
    session.clear_async().await?;
    session.feed_async(ids).await
}

/// Goes back to the state after the prompt, or reads the prompt again if that state was dropped.
async fn go_back(session: &mut Session, read: &Mark, ids: &[u32]) -> Result<()> {
    match session.back_to_async(read).await {
        Err(Error::StateNotKept { .. }) => read_prompt(session, ids).await,
        outcome => outcome,
    }
}

async fn give_out(
    mut answer: Answer<'_>,
    choice: usize,
    options: &AnswerOptions,
    mut tools: Option<CallReader>,
    each: &mut dyn FnMut(Event),
) -> Result<()> {
    while let Some(piece) = answer.next_async().await {
        let mut text = piece?;
        let mut calls = vec![];
        if let Some(reader) = &mut tools {
            Parsed { text, calls } = reader.add(&text);
        }
        let logprobs = options.logprobs.map(|_| answer.take_chosen());
        // Text that may become a call is kept back.
        if !text.is_empty() || logprobs.is_some() {
            each(Event::Piece { choice, text, logprobs });
        }
        calls.into_iter().for_each(|call| each(Event::Call { choice, call }));
    }
    let finish = answer.finish().unwrap_or(Finish::Failed);
    if finish == Finish::Cancelled {
        return Err(Error::Cancelled);
    }
    if let Some(reader) = &mut tools {
        let Parsed { text, calls } = reader.finish();
        if !text.is_empty() {
            each(Event::Piece { choice, text, logprobs: options.logprobs.map(|_| vec![]) });
        }
        calls.into_iter().for_each(|call| each(Event::Call { choice, call }));
    }
    if options.logprobs.is_some() {
        // Tokens without text, such as EOS, come after the last piece.
        each(Event::Piece { choice, text: String::new(), logprobs: Some(answer.take_chosen()) });
    }
    each(Event::Ended { choice, finish, tokens: answer.generation().tokens() as u64 });
    Ok(())
}

impl Completion {
    /// Adds the next event.
    pub fn add(&mut self, event: Event) {
        match event {
            Event::Read(tokens) => self.prompt_tokens += tokens,
            Event::Echo { choice, echo } => self.choice(choice).echo = Some(echo),
            Event::Piece { choice, text, logprobs } => {
                let choice = self.choice(choice);
                choice.text += &text;
                if let Some(chosen) = logprobs {
                    choice.logprobs.get_or_insert_default().extend(chosen);
                }
            }
            Event::Call { choice, call } => self.choice(choice).calls.push(call),
            Event::Ended { choice, finish, tokens } => {
                self.choice(choice).finish = finish;
                self.completion_tokens += tokens;
            }
        }
    }

    /// The answer `index`, empty if no event of it came yet.
    fn choice(&mut self, index: usize) -> &mut Choice {
        let empty =
            || Choice { echo: None, text: String::new(), calls: vec![], finish: Finish::Failed, logprobs: None };
        if self.choices.len() <= index {
            self.choices.resize_with(index + 1, empty);
        }
        &mut self.choices[index]
    }
}
