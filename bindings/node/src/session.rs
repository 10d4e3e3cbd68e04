//! A conversation.

use crate::answer::{Answer, Running};
use crate::calls::Desk;
use crate::errors::{Code, Failure, Outcome};
use crate::message::{Message, messages};
use crate::model::Text;
use crate::options::{AnswerOptions, SamplingOptions};
use napi::bindgen_prelude::{Buffer, Either, ToNapiValue, Uint8Array, Uint32Array};
use napi_derive::napi;
use peregrine::{Engine, Prompt, Snapshot};
use peregrine_bindings::Place;
use std::sync::Arc;

const NAMES: [&str; 2] = [
    "session",
    "the session is busy with an answer or another call: finish or close the answer first, or fork the session before",
];

type Thrown = napi::Error<Code>;

#[napi]
pub struct Session {
    desk: Arc<Desk>,
    place: Arc<Place<peregrine::Session>>,
}

/// A moment of a session.
#[napi]
pub struct Mark(Arc<peregrine::Mark>);

impl Session {
    pub fn new(desk: &Arc<Desk>, session: peregrine::Session) -> Self {
        let cancel = session.cancel_handle();
        Session { desk: desk.clone(), place: Place::new(session, cancel, NAMES) }
    }

    /// An answer, which has the session until it ends.
    fn answer(
        &self,
        options: AnswerOptions,
        prompt: impl FnOnce(&Engine) -> Outcome<Prompt> + Send + 'static,
    ) -> Result<Answer, Thrown> {
        let mut taken = self.place.take().map_err(Failure::from)?;
        Ok(Answer::new(&self.desk, move || {
            let engine = taken.it().engine().clone();
            let (prompt, options) = (prompt(&engine)?, options.of(engine.checkpoint())?);
            let (session, place) = taken.empty();
            Ok(Running::new(session.into_answer(prompt, &options), Some(place)))
        }))
    }

    fn call<R: ToNapiValue + Send + 'static>(
        &self,
        call: u32,
        work: impl FnOnce(&mut peregrine::Session) -> Outcome<R> + Send + 'static,
    ) {
        self.desk.call(call, &self.place, work);
    }
}

#[napi]
impl Session {
    #[napi(catch_unwind)]
    pub fn send(&self, text: String, options: AnswerOptions) -> Result<Answer, Thrown> {
        self.answer(options, |_| Ok(Prompt::Message(text)))
    }

    #[napi(catch_unwind)]
    pub fn converse(&self, messages: Vec<Message>, options: AnswerOptions) -> Result<Answer, Thrown> {
        let messages = messages.iter().map(Message::of_library).collect::<Outcome<Vec<_>>>()?;
        self.answer(options, |_| Ok(Prompt::Messages(messages)))
    }

    #[napi(catch_unwind)]
    pub fn complete(&self, prompt: Either<String, Uint32Array>, options: AnswerOptions) -> Result<Answer, Thrown> {
        let prompt = Text::of(prompt);
        self.answer(options, |engine| Ok(Prompt::Ids(prompt.ids(engine)?)))
    }

    #[napi(catch_unwind)]
    pub fn resume(&self, options: AnswerOptions) -> Result<Answer, Thrown> {
        self.answer(options, |_| Ok(Prompt::Resume))
    }

    #[napi(catch_unwind)]
    pub fn retry(&self, options: AnswerOptions) -> Result<Answer, Thrown> {
        self.answer(options, |_| Ok(Prompt::Retry))
    }

    #[napi(catch_unwind)]
    pub fn feed(&self, call: u32, ids: Uint32Array) {
        let ids = ids.to_vec();
        self.call(call, move |session| Ok(session.feed(&ids)?));
    }

    #[napi(catch_unwind)]
    pub fn set_sampling(&self, call: u32, sampling: SamplingOptions) {
        self.call(call, move |session| {
            let sampling = sampling.over(session.sampling().clone());
            Ok(session.set_sampling(sampling)?)
        });
    }

    #[napi(catch_unwind)]
    pub fn system(&self, call: u32, text: String) {
        self.call(call, move |session| {
            session.system(&text);
            Ok(())
        });
    }

    #[napi(catch_unwind)]
    pub fn clear(&self, call: u32) {
        self.call(call, |session| Ok(session.clear()?));
    }

    /// Replies with the message that it removes.
    #[napi(catch_unwind)]
    pub fn undo(&self, call: u32) {
        self.call(call, |session| Ok(Message::from(&session.undo()?)));
    }

    /// Replies with a session.
    #[napi(catch_unwind)]
    pub fn fork(&self, call: u32) {
        let desk = self.desk.clone();
        self.call(call, move |session| Ok(Session::new(&desk, session.fork()?)));
    }

    /// Replies with a mark.
    #[napi(catch_unwind)]
    pub fn mark(&self, call: u32) {
        self.call(call, |session| Ok(Mark(Arc::new(session.mark()?))));
    }

    #[napi(catch_unwind)]
    pub fn back_to(&self, call: u32, mark: &Mark) {
        let mark = mark.0.clone();
        self.call(call, move |session| Ok(session.back_to(&mark)?));
    }

    /// Replies with bytes.
    #[napi(catch_unwind)]
    pub fn snapshot(&self, call: u32) {
        self.call(call, |session| Ok(Buffer::from(session.snapshot()?.to_bytes()?)));
    }

    /// Replies with warnings.
    #[napi(catch_unwind)]
    pub fn restore(&self, call: u32, snapshot: Uint8Array) {
        // A copy: JavaScript may change its own meanwhile.
        let bytes = snapshot.to_vec();
        self.call(call, move |session| {
            let warnings = session.restore(&Snapshot::from_bytes("the snapshot", &bytes)?)?;
            Ok(warnings.iter().map(ToString::to_string).collect::<Vec<_>>())
        });
    }

    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.place.cancel_handle().cancel();
    }

    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.place.close();
    }

    #[napi(getter, catch_unwind)]
    pub fn messages(&self) -> Result<Vec<Message>, Thrown> {
        Ok(self.place.look(|session| messages(session.messages())).map_err(Failure::from)?)
    }

    #[napi(getter, catch_unwind)]
    pub fn position(&self) -> Result<f64, Thrown> {
        Ok(self.place.look(|session| session.position() as f64).map_err(Failure::from)?)
    }
}

#[napi]
impl Mark {
    #[napi(getter, catch_unwind)]
    pub fn messages(&self) -> Vec<Message> {
        messages(self.0.messages())
    }

    #[napi(getter, catch_unwind)]
    pub fn position(&self) -> f64 {
        self.0.position() as f64
    }
}
