//! A loaded language model.

use crate::error::{Failure, Outcome};
use crate::options::{Choice, Load, read};
use crate::session::Session;
use peregrine::{AdapterChoice, Checkpoint, Engine, Gpu, Sampling, Specials};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
pub struct Model {
    engine: Engine,
}

/// The files of a model: each a name and its bytes.
fn files_of(files: &js_sys::Array) -> Outcome<Vec<(String, Vec<u8>)>> {
    let bad = || Failure::argument("files: each is a pair of a name and a Uint8Array");
    let file = |pair: JsValue| {
        let pair = pair.dyn_into::<js_sys::Array>().map_err(|_| bad())?;
        let name = pair.get(0).as_string().ok_or_else(bad)?;
        let bytes = pair.get(1).dyn_into::<js_sys::Uint8Array>().map_err(|_| bad())?;
        Ok((name, bytes.to_vec()))
    };
    files.iter().map(file).collect()
}

/// The ids of a text in which nothing is a special token.
pub fn ids_of(engine: &Engine, text: &str) -> Outcome<Vec<u32>> {
    Ok(engine.checkpoint().tokenizer()?.encode_text(text, Specials::Literal)?)
}

#[wasm_bindgen]
impl Model {
    /// Loads a model from its files; `progress` is called with the bytes done and their total. `findings` are those of an earlier
    /// model on this device.
    pub async fn load(
        files: js_sys::Array,
        options: JsValue,
        progress: Option<js_sys::Function>,
        findings: Option<String>,
    ) -> Result<Model, JsValue> {
        let options: Load = read(&options)?;
        let engine_options = options.engine()?;
        let name = options.name.as_deref().unwrap_or("model");
        let checkpoint = Checkpoint::from_files(name, files_of(&files)?).map_err(Failure::from)?;
        let gpu = Gpu::open_async(&AdapterChoice::Best).await.map_err(Failure::from)?;
        // What is damaged is found out again.
        gpu.keep_findings(findings.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default());
        let mut show = |at: peregrine::runtime::Progress| {
            if let Some(progress) = &progress {
                // What it throws is its own affair: loading goes on.
                let _ = progress.call2(&JsValue::NULL, &(at.done as f64).into(), &(at.total as f64).into());
            }
        };
        let engine = Engine::load_async(&gpu, checkpoint, engine_options, &mut show).await.map_err(Failure::from)?;
        // The first session compiles nothing more, and shows that the device works.
        drop(engine.session_async(Sampling::GREEDY).await.map_err(Failure::from)?);
        Ok(Model { engine })
    }

    /// A new conversation, in a free slot, with a system message if there is one.
    pub async fn chat(&self, sampling: JsValue, system: Option<String>) -> Result<Session, JsValue> {
        let sampling = read::<Choice>(&sampling)?.sampling(self.engine.checkpoint())?;
        let mut session = self.engine.session_async(sampling).await.map_err(Failure::from)?;
        if let Some(text) = system {
            session.system(&text);
        }
        Ok(Session::new(session))
    }

    /// The logits `[tokens][vocab]` after each of these ids.
    pub async fn logits(&self, ids: Vec<u32>) -> Result<js_sys::Float32Array, JsValue> {
        let mut session = self.engine.session_async(Sampling::GREEDY).await.map_err(Failure::from)?;
        let logits = session.logits_async(&ids).await.map_err(Failure::from)?;
        Ok(js_sys::Float32Array::from(&logits[..]))
    }

    /// The ids of a text.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        Ok(ids_of(&self.engine, text)?)
    }

    /// What was found out about the device, as JSON, for the next load.
    #[wasm_bindgen(getter)]
    pub fn findings(&self) -> String {
        serde_json::json!(self.engine.gpu().findings()).to_string()
    }

    /// The adapter it runs on.
    #[wasm_bindgen(getter)]
    pub fn adapter(&self) -> String {
        self.engine.gpu().info().to_string()
    }

    /// Bytes of the device's memory that it takes.
    #[wasm_bindgen(getter, js_name = deviceMemory)]
    pub fn device_memory(&self) -> f64 {
        self.engine.gpu().allocated_bytes() as f64
    }

    /// Whether it has a chat template.
    #[wasm_bindgen(getter, js_name = canChat)]
    pub fn can_chat(&self) -> bool {
        self.engine.checkpoint().has_template()
    }

    /// Lines that the user should see, such as forms of kernels that are wrong on this driver and not used. Each is given once.
    #[wasm_bindgen(js_name = takeNotes)]
    pub fn take_notes(&self) -> Vec<String> {
        self.engine.gpu().take_notes()
    }

    /// What went wrong with the device, for a page that wants to know before the next call.
    pub fn check(&self) -> Result<(), JsValue> {
        Ok(self.engine.gpu().check().map_err(Failure::from)?)
    }

    /// Opens the device again after it was lost; sessions continue. Gives false, and does nothing, if it works.
    pub async fn recover(&self) -> Result<bool, JsValue> {
        Ok(self.engine.recover_async(&mut |_| {}).await.map_err(Failure::from)?)
    }
}
