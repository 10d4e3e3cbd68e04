//! A loaded language model.

use crate::adapter::Adapter;
use crate::answer::{Answer, Running};
use crate::calls::Desk;
use crate::errors::{Code, Failure, Outcome};
use crate::options::{AnswerOptions, SamplingOptions};
use crate::session::Session;
use napi::bindgen_prelude::{Either, Float32Array, ToNapiValue, Uint32Array};
use napi_derive::napi;
use peregrine::{CancelHandle, Engine, Error, Prompt, Sampling, Specials};
use peregrine_bindings::Refused;
use std::sync::{Arc, OnceLock};

type Thrown = napi::Error<Code>;

#[napi]
pub struct Model {
    desk: Arc<Desk>,
    /// `None`: it is closed. Sessions have handles of their own.
    engine: Option<Engine>,
}

impl Model {
    pub fn new(desk: &Arc<Desk>, engine: Engine) -> Self {
        Model { desk: desk.clone(), engine: Some(engine) }
    }

    fn engine(&self) -> Outcome<&Engine> {
        self.engine.as_ref().ok_or(Failure::Refused(Refused::Closed("model")))
    }

    /// A call that works with the engine, to its end.
    fn call<T: ToNapiValue + Send + 'static>(
        &self,
        call: u32,
        work: impl FnOnce(Engine) -> Outcome<T> + Send + 'static,
    ) {
        match self.engine().cloned() {
            Ok(engine) => self.desk.begin(call, || {}, move || work(engine)),
            Err(failure) => self.desk.end(call, Err::<T, _>(failure)),
        }
    }
}

#[napi]
impl Model {
    /// Replies with a session.
    #[napi(catch_unwind)]
    pub fn chat(&self, call: u32, system: Option<String>, sampling: SamplingOptions) {
        let desk = self.desk.clone();
        self.call(call, move |engine| {
            let mut session = engine.session(sampling.of(engine.checkpoint())?)?;
            if let Some(text) = system {
                session.system(&text);
            }
            Ok(Session::new(&desk, session))
        });
    }

    #[napi(catch_unwind)]
    pub fn generate(
        &self,
        prompt: Either<String, Uint32Array>,
        sampling: SamplingOptions,
        options: AnswerOptions,
    ) -> Result<Answer, Thrown> {
        let engine = self.engine()?.clone();
        let prompt = Text::of(prompt);
        Ok(Answer::new(&self.desk, move || {
            let sampling = sampling.of(engine.checkpoint())?;
            let options = options.of(engine.checkpoint())?;
            let ids = prompt.ids(&engine)?;
            let session = engine.session(sampling)?;
            Ok(Running::new(session.into_answer(Prompt::Ids(ids), &options), None))
        }))
    }

    /// Replies with the logits after each id, row by row.
    #[napi(catch_unwind)]
    pub fn logits(&self, call: u32, ids: Uint32Array) {
        let ids = ids.to_vec();
        // Set by the stop, or by the work once there is something to stop.
        let cancel = Arc::new(OnceLock::<Option<CancelHandle>>::new());
        let stopped = cancel.clone();
        let stop = move || {
            if let (Err(_), Some(Some(cancel))) = (stopped.set(None), stopped.get()) {
                cancel.cancel_all();
            }
        };
        let work = move |engine: Engine| {
            let mut session = engine.session(Sampling::GREEDY)?;
            cancel.set(Some(session.cancel_handle())).map_err(|_| Error::Cancelled)?;
            Ok(Float32Array::new(session.logits(&ids)?))
        };
        match self.engine().cloned() {
            Ok(engine) => self.desk.begin(call, stop, move || work(engine)),
            Err(failure) => self.desk.end(call, Err::<(), _>(failure)),
        }
    }

    /// Replies with the ids of a text.
    #[napi(catch_unwind)]
    pub fn tokenize(&self, call: u32, text: String, add_special: bool, parse_special: bool) {
        self.call(call, move |engine| {
            let specials = if parse_special { Specials::Parse } else { Specials::Literal };
            let tokenizer = engine.checkpoint().tokenizer()?;
            Ok(match add_special {
                true => tokenizer.encode_text(&text, specials)?,
                false => tokenizer.encode(&text, specials)?,
            })
        });
    }

    /// Replies with the text of ids.
    #[napi(catch_unwind)]
    pub fn detokenize(&self, call: u32, ids: Uint32Array) {
        let ids = ids.to_vec();
        self.call(call, move |engine| {
            let vocab = engine.checkpoint().config().vocab;
            if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab) {
                return Err(Error::IdOutOfRange { id: *id, at, vocab }.into());
            }
            Ok(engine.checkpoint().tokenizer()?.decode(&ids))
        });
    }

    /// Replies with whether the device was opened anew.
    #[napi(catch_unwind)]
    pub fn recover(&self, call: u32) {
        self.call(call, |engine| Ok(engine.recover(&mut |_| {})?));
    }

    /// Replies when its memory is free, or belongs to its sessions alone.
    #[napi(catch_unwind)]
    pub fn close(&mut self, call: u32) {
        let engine = self.engine.take();
        self.desk.begin(
            call,
            || {},
            move || {
                drop(engine);
                Ok(())
            },
        );
    }

    #[napi(getter, catch_unwind)]
    pub fn name(&self) -> Result<String, Thrown> {
        Ok(self.engine()?.checkpoint().label().to_owned())
    }

    #[napi(getter, catch_unwind)]
    pub fn adapter(&self) -> Result<Adapter, Thrown> {
        Ok(Adapter::from(self.engine()?.gpu().info()))
    }

    #[napi(getter, catch_unwind)]
    pub fn memory(&self) -> Result<f64, Thrown> {
        Ok(self.engine()?.gpu().allocated_bytes() as f64)
    }

    #[napi(getter, catch_unwind)]
    pub fn slots(&self) -> Result<f64, Thrown> {
        Ok(self.engine()?.slots() as f64)
    }

    #[napi(getter, catch_unwind)]
    pub fn vocab(&self) -> Result<f64, Thrown> {
        Ok(self.engine()?.checkpoint().config().vocab as f64)
    }

    #[napi(getter, catch_unwind)]
    pub fn eos(&self) -> Result<Vec<u32>, Thrown> {
        Ok(self.engine()?.checkpoint().eos().to_vec())
    }

    #[napi(getter, catch_unwind)]
    pub fn can_chat(&self) -> Result<bool, Thrown> {
        Ok(self.engine()?.checkpoint().has_template())
    }
}

/// What a model is to continue: a text, with the tokens that the tokenizer puts around one, or ids.
pub enum Text {
    Plain(String),
    Ids(Vec<u32>),
}

impl Text {
    pub fn of(given: Either<String, Uint32Array>) -> Self {
        match given {
            Either::A(text) => Text::Plain(text),
            Either::B(ids) => Text::Ids(ids.to_vec()),
        }
    }

    pub fn ids(self, engine: &Engine) -> peregrine::Result<Vec<u32>> {
        match self {
            Text::Plain(text) => engine.checkpoint().tokenizer()?.encode_text(&text, Specials::Literal),
            Text::Ids(ids) => Ok(ids),
        }
    }
}
