//! The adapters of this machine.

use crate::calls::Calls;
use napi::bindgen_prelude::Either;
use napi_derive::napi;
use peregrine::AdapterChoice;
use peregrine::gpu::{self, AdapterInfo};

/// A GPU, or a CPU that takes the place of one.
#[napi(object, object_from_js = false)]
#[derive(Clone)]
pub struct Adapter {
    pub name: String,
    pub backend: String,
    pub kind: &'static str,
    pub driver: String,
    pub cpu: bool,
    pub unfit: Option<String>,
    /// Its name with all that tells it from others.
    pub shown: String,
}

impl From<&AdapterInfo> for Adapter {
    fn from(info: &AdapterInfo) -> Self {
        Adapter {
            shown: info.to_string(),
            name: info.name.clone(),
            backend: info.backend.clone(),
            kind: info.kind,
            driver: info.driver.clone(),
            cpu: info.cpu,
            unfit: info.unfit.clone(),
        }
    }
}

#[napi]
impl Calls {
    /// The adapters, best first.
    #[napi(catch_unwind)]
    pub fn adapters(&self, call: u32) {
        self.desk().begin(call, || {}, || Ok(gpu::adapters().iter().map(Adapter::from).collect::<Vec<_>>()));
    }
}

/// What `gpu` says: an index, a part of a name, or nothing.
pub fn choice(gpu: Option<Either<u32, String>>) -> AdapterChoice {
    match gpu {
        None => AdapterChoice::Best,
        Some(Either::A(index)) => AdapterChoice::Index(index as usize),
        Some(Either::B(text)) => AdapterChoice::parse(&text),
    }
}
