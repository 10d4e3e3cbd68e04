//! The blocking call of [`Request::answer_async`].

use super::{Completion, Request, RequestDefaults};
use crate::error::Result;
use crate::runtime::Session;

impl Request {
    /// Blocking [`Request::answer_async`].
    pub fn answer(&self, session: &mut Session, defaults: RequestDefaults) -> Result<Completion> {
        pollster::block_on(self.answer_async(session, defaults))
    }
}
