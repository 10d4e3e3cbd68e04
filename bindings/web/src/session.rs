//! A conversation.

use crate::answer::Answer;
use crate::error::Outcome;
use crate::model::ids_of;
use crate::options::{Choice, End, read};
use peregrine::{Engine, Prompt, Snapshot};
use peregrine_bindings::Place;
use std::sync::Arc;
use wasm_bindgen::prelude::*;

const NAMES: [&str; 2] =
    ["session", "the session is busy with an answer or another call: end it first, or fork the session before"];

#[wasm_bindgen]
pub struct Session {
    engine: Engine,
    place: Arc<Place<peregrine::Session>>,
}

/// A moment of a session.
#[wasm_bindgen]
pub struct Mark(peregrine::Mark);

impl Session {
    pub fn new(session: peregrine::Session) -> Self {
        let (engine, cancel) = (session.engine().clone(), session.cancel_handle());
        Session { engine, place: Place::new(session, cancel, NAMES) }
    }

    fn answer(&self, prompt: Prompt, options: &JsValue) -> Outcome<Answer> {
        let options = read::<End>(options)?.answer(self.engine.checkpoint());
        Ok(Answer::new(self.place.take()?, prompt, &options))
    }

    /// A call that waits for the device.
    async fn call<R>(&self, work: impl AsyncFnOnce(&mut peregrine::Session) -> peregrine::Result<R>) -> Outcome<R> {
        let mut taken = self.place.take()?;
        Ok(work(taken.it()).await?)
    }

    fn look<R>(&self, look: impl FnOnce(&peregrine::Session) -> R) -> Outcome<R> {
        Ok(self.place.look(look)?)
    }
}

#[wasm_bindgen]
impl Session {
    pub fn send(&self, text: String, options: &JsValue) -> Result<Answer, JsValue> {
        Ok(self.answer(Prompt::Message(text), options)?)
    }

    pub fn complete(&self, text: &str, options: &JsValue) -> Result<Answer, JsValue> {
        Ok(self.answer(Prompt::Ids(ids_of(&self.engine, text)?), options)?)
    }

    pub fn retry(&self, options: &JsValue) -> Result<Answer, JsValue> {
        Ok(self.answer(Prompt::Retry, options)?)
    }

    pub fn resume(&self, options: &JsValue) -> Result<Answer, JsValue> {
        Ok(self.answer(Prompt::Resume, options)?)
    }

    /// Ends the answer or call in progress.
    pub fn cancel(&self) {
        self.place.cancel_handle().cancel();
    }

    /// Takes back the last message and its answer; gives the message's text.
    pub async fn undo(&self) -> Result<String, JsValue> {
        Ok(self.call(async |session| session.undo_async().await).await?.content)
    }

    /// Changes how tokens are chosen from the next answer on.
    #[wasm_bindgen(js_name = setSampling)]
    pub async fn set_sampling(&self, options: JsValue) -> Result<(), JsValue> {
        let sampling = read::<Choice>(&options)?.sampling(self.engine.checkpoint())?;
        Ok(self.call(async |session| session.set_sampling_async(sampling).await).await?)
    }

    pub async fn clear(&self) -> Result<(), JsValue> {
        Ok(self.call(async |session| session.clear_async().await).await?)
    }

    pub async fn fork(&self) -> Result<Session, JsValue> {
        Ok(Session::new(self.call(async |session| session.fork_async().await).await?))
    }

    pub async fn mark(&self) -> Result<Mark, JsValue> {
        Ok(Mark(self.call(async |session| session.mark_async().await).await?))
    }

    #[wasm_bindgen(js_name = backTo)]
    pub async fn back_to(&self, mark: &Mark) -> Result<(), JsValue> {
        Ok(self.call(async |session| session.back_to_async(&mark.0).await).await?)
    }

    /// The conversation and its state, as the bytes of a state file.
    pub async fn snapshot(&self) -> Result<js_sys::Uint8Array, JsValue> {
        let bytes = self.call(async |session| session.snapshot_async().await?.to_bytes()).await?;
        Ok(js_sys::Uint8Array::from(&bytes[..]))
    }

    /// Continues from a snapshot. Gives what may make a difference, such as another kind of GPU.
    pub async fn restore(&self, snapshot: Vec<u8>) -> Result<Vec<String>, JsValue> {
        let restore = async |session: &mut peregrine::Session| {
            session.restore_async(&Snapshot::from_bytes("snapshot", &snapshot)?).await
        };
        let warnings = self.call(restore).await?;
        Ok(warnings.iter().map(ToString::to_string).collect())
    }

    /// The messages as JSON.
    #[wasm_bindgen(js_name = messagesJson)]
    pub fn messages_json(&self) -> Result<String, JsValue> {
        let messages = |session: &peregrine::Session| {
            let message = |message: &peregrine::Message| {
                let mut fields = message.fields.clone();
                fields.insert("role".to_owned(), message.role.clone().into());
                fields.insert("content".to_owned(), message.content.clone().into());
                serde_json::Value::Object(fields)
            };
            serde_json::Value::from_iter(session.messages().iter().map(message)).to_string()
        };
        Ok(self.look(messages)?)
    }

    /// Tokens that the state has consumed.
    #[wasm_bindgen(getter)]
    pub fn position(&self) -> Result<f64, JsValue> {
        Ok(self.look(|session| session.position() as f64)?)
    }

    /// Frees its slot.
    pub fn close(&self) {
        self.place.close();
    }
}
