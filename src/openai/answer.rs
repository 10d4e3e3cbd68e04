//! Running a request in a session.

use super::request::Request;
use crate::error::{Error, Result};
use crate::runtime::{AnswerOptions, Chosen, Finish, Mark, Prompt, Session};

/// Values for what neither the request nor the model sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestDefaults {
    /// Maximum tokens of an answer; `None` for no limit.
    pub max_tokens: Option<usize>,
    /// Random seed.
    pub seed: u64,
}

/// The answers to a request.
#[derive(Debug, Clone, PartialEq)]
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
    /// The answer's text.
    pub text: String,
    /// Why the answer ended.
    pub finish: Finish,
    /// Its tokens with log-probabilities, if the request asks for them.
    pub logprobs: Option<Vec<Chosen>>,
}

impl Request {
    /// Runs the request in a session, which is cleared first. Each prompt is read once for all its answers. Cancellation gives
    /// [`Error::Cancelled`].
    pub async fn answer_async(&self, session: &mut Session, defaults: RequestDefaults) -> Result<Completion> {
        let engine = session.engine().clone();
        let checkpoint = engine.checkpoint();
        let options = self.options(checkpoint, defaults.max_tokens)?;
        let mut answered = Completion { choices: vec![], prompt_tokens: 0, completion_tokens: 0 };
        for ids in self.prompts(checkpoint)? {
            let mut read = None;
            for index in 0..self.answers() {
                session.set_sampling_async(self.sampling(checkpoint, defaults.seed, index)).await?;
                match &read {
                    None => read_prompt(session, &ids).await?,
                    Some(read) => go_back(session, read, &ids).await?,
                }
                if read.is_none() && self.answers() > 1 {
                    read = Some(session.mark_async().await?);
                }
                answered.take(session, &options).await?;
            }
            answered.prompt_tokens += ids.len() as u64;
        }
        Ok(answered)
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

impl Completion {
    async fn take(&mut self, session: &mut Session, options: &AnswerOptions) -> Result<()> {
        let mut answer = session.answer_async(Prompt::Ids(vec![]), options).await?;
        let mut text = String::new();
        while let Some(piece) = answer.next_async().await {
            text += &piece?;
        }
        let finish = answer.finish().unwrap_or(Finish::Failed);
        if finish == Finish::Cancelled {
            return Err(Error::Cancelled);
        }
        let logprobs = options.logprobs.map(|_| answer.take_chosen());
        self.completion_tokens += answer.generation().tokens() as u64;
        self.choices.push(Choice { text, finish, logprobs });
        Ok(())
    }
}
