//! Answering for callers that wait.

use super::{Answered, Request, Unsaid};
use crate::error::Result;
use crate::runtime::Session;

impl Request {
    /// [`Request::answer_async`], waited for.
    pub fn answer(&self, session: &mut Session, unsaid: Unsaid) -> Result<Answered> {
        pollster::block_on(self.answer_async(session, unsaid))
    }
}
