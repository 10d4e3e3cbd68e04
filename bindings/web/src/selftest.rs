//! The quick self-test.

use crate::error::Failure;
use peregrine::selftest::{Depth, Event, Options, of_group, run_async};
use peregrine::{AdapterChoice, Error, Gpu};
use wasm_bindgen::prelude::*;

/// Tests the adapter; `group` is called with each group of checks as JSON when it has ended. Gives the report as JSON.
#[wasm_bindgen(js_name = selfTest)]
pub async fn self_test(
    only: Option<String>,
    plant: Option<String>,
    group: js_sys::Function,
) -> Result<String, JsValue> {
    let options = Options { only, plant, ..Options::of(Depth::Quick) };
    let adapter = Gpu::open_async(&AdapterChoice::Best).await.map_err(Failure::from)?.info().clone();
    let no_model = || Err(Error::Cancelled); // the quick test has no part with one
    let mut see = |event: Event<'_>| {
        if let Event::Done(done) = event {
            // What it throws is its own affair: the test goes on.
            let _ = group.call1(&JsValue::NULL, &of_group(done, false).to_string().into());
        }
    };
    let report = run_async(&AdapterChoice::Best, &adapter, &options, &no_model, &mut see).await;
    let mut json = report.json(false);
    json["markdown"] = report.markdown().into();
    Ok(json.to_string())
}
