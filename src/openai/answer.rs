//! Answering a request with a session.

use super::request::Request;
use crate::error::{Error, Result};
use crate::runtime::{AnswerOptions, Chosen, Finish, Mark, Prompt, Session};

/// What holds where neither the request nor the model says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsaid {
    /// Tokens of an answer at most; `None`: until the model ends.
    pub max_tokens: Option<usize>,
    /// The seed.
    pub seed: u64,
}

/// The answers to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// In the order of the prompts, and of the answers to each.
    pub choices: Vec<Choice>,
    /// Tokens of the prompts, each counted once.
    pub prompt_tokens: u64,
    /// Tokens of all answers.
    pub completion_tokens: u64,
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What was said.
    pub text: String,
    /// Why that was all.
    pub finish: Finish,
    /// Its tokens with their log-probabilities, where the request wants them.
    pub logprobs: Option<Vec<Chosen>>,
}

impl Request {
    /// Has a session answer it; what the session had read before is forgotten. Each prompt is read once, however many answers it
    /// gets. Cancelled, it ends with [`Error::Cancelled`].
    pub async fn answer_async(&self, session: &mut Session, unsaid: Unsaid) -> Result<Answered> {
        let engine = session.engine().clone();
        let checkpoint = engine.checkpoint();
        let options = self.options(checkpoint, unsaid.max_tokens);
        let mut answered = Answered { choices: vec![], prompt_tokens: 0, completion_tokens: 0 };
        for ids in self.prompts(checkpoint)? {
            let mut read = None;
            for index in 0..self.answers() {
                session.set_sampling_async(self.sampling(checkpoint, unsaid.seed, index)).await?;
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

/// Back to where the prompt had been read. Where that state is not kept any more, it is read again.
async fn go_back(session: &mut Session, read: &Mark, ids: &[u32]) -> Result<()> {
    match session.back_to_async(read).await {
        Err(Error::StateNotKept { .. }) => read_prompt(session, ids).await,
        outcome => outcome,
    }
}

impl Answered {
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
