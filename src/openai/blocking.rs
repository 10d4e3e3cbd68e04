//! The blocking calls of a [`Request`].

use super::{Completion, Event, Request, RequestDefaults, Start};
use crate::error::Result;
use crate::runtime::Session;

impl Request {
    /// Blocking [`Request::answer_async`].
    pub fn answer(&self, session: &mut Session, defaults: RequestDefaults) -> Result<Completion> {
        pollster::block_on(self.answer_async(session, defaults))
    }

    /// Blocking [`Request::read_async`].
    pub fn read(&self, session: &mut Session) -> Result<()> {
        pollster::block_on(self.read_async(session))
    }

    /// Blocking [`Request::events_async`].
    pub fn events(
        &self,
        session: &mut Session,
        defaults: RequestDefaults,
        start: Start<'_>,
        each: &mut dyn FnMut(Event),
    ) -> Result<()> {
        pollster::block_on(self.events_async(session, defaults, start, each))
    }
}
