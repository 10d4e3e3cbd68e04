//! An answer: an async iterator of text that owns its session until it ends.

use crate::error::{Failure, Outcome};
use peregrine::{AnswerOptions, CancelHandle, Finish, Prompt, Session};
use peregrine_bindings::{Refused, Taken};
use std::cell::{Cell, RefCell};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
pub struct Answer {
    cancel: CancelHandle,
    /// Where the session goes at the end; not later, when JavaScript frees the answer.
    place: Cell<Option<Taken<Session>>>,
    stage: RefCell<Stage>,
    finish: Cell<Option<Finish>>,
    tokens: Cell<usize>,
}

enum Stage {
    Ready(Box<peregrine::Answer<'static>>),
    InCall,
    Over,
}

impl Answer {
    /// An answer that continues `prompt` in the session of a place.
    pub fn new(taken: Taken<Session>, prompt: Prompt, options: &AnswerOptions) -> Self {
        let (session, place) = taken.empty();
        Answer {
            cancel: session.cancel_handle(),
            place: Cell::new(Some(place)),
            stage: RefCell::new(Stage::Ready(Box::new(session.into_answer(prompt, options)))),
            finish: Cell::new(None),
            tokens: Cell::new(0),
        }
    }

    /// The next piece; `None` at the end.
    async fn piece(&self) -> Outcome<Option<String>> {
        let mut answer = match self.stage.replace(Stage::InCall) {
            Stage::Ready(answer) => answer,
            Stage::Over => {
                self.stage.replace(Stage::Over);
                return Ok(None);
            }
            Stage::InCall => return Err(Refused::Busy("another call waits for the next piece of this answer").into()),
        };
        let piece = answer.next_async().await;
        self.tokens.set(answer.generation().tokens());
        match piece {
            // `close` in the meantime has ended it.
            Some(Ok(piece)) if matches!(*self.stage.borrow(), Stage::InCall) => {
                self.stage.replace(Stage::Ready(answer));
                Ok(Some(piece))
            }
            other => {
                self.end(*answer);
                other.transpose().map_err(Failure::from)
            }
        }
    }

    /// Gives the session back.
    fn end(&self, answer: peregrine::Answer<'static>) {
        self.stage.replace(Stage::Over);
        self.finish.set(answer.finish().or(Some(Finish::Cancelled)));
        if let (Some(session), Some(place)) = (answer.into_session(), self.place.take()) {
            place.fill(session);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.close();
    }
}

#[wasm_bindgen]
impl Answer {
    /// The next piece of text as `{ value, done }`.
    pub async fn next(&self) -> Result<JsValue, JsValue> {
        let piece = self.piece().await?;
        let result = js_sys::Object::new();
        js_sys::Reflect::set(&result, &"done".into(), &piece.is_none().into())?;
        js_sys::Reflect::set(&result, &"value".into(), &piece.map_or(JsValue::UNDEFINED, Into::into))?;
        Ok(result.into())
    }

    /// Ends the answer within a token.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Ends it; the session is as after the last piece.
    pub fn close(&self) {
        match self.stage.replace(Stage::Over) {
            Stage::Ready(answer) => self.end(*answer),
            Stage::InCall => self.cancel.cancel(),
            Stage::Over => {}
        }
    }

    /// Why it ended; `undefined` before the end.
    #[wasm_bindgen(getter)]
    pub fn finish(&self) -> Option<String> {
        let finish = match self.finish.get()? {
            Finish::Eos => "eos",
            Finish::Length => "length",
            Finish::Stop => "stop",
            Finish::Cancelled => "cancelled",
            Finish::Failed => "failed",
        };
        Some(finish.to_owned())
    }

    /// Tokens generated so far.
    #[wasm_bindgen(getter)]
    pub fn tokens(&self) -> usize {
        self.tokens.get()
    }
}
