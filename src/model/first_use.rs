//! The first use of a form of a kernel on an adapter and its driver: a case compares it with its twin. A form that is wrong is not
//! used; that is noted once per process. What passed is kept beside the tuning results, so that no later start runs it again.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::case::{Case, Plant};
use crate::kernels::variants::Variants;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Of the file.
const KIND: &str = "checked";
const EXTENSION: &str = ".forms";

/// What cases came to: nothing, or the fault.
type Known = BTreeMap<String, Option<String>>;

/// These forms, with the ones of `portable` where a case fails. Only where what was found out is kept ([`Gpu::keep_in`],
/// [`Gpu::keep_findings`]): elsewhere every start would pay for it.
pub(super) async fn checked(gpu: &Gpu, variants: Variants, portable: &Variants) -> Result<Variants> {
    if !gpu.caps().first_use || !gpu.keeps() {
        return Ok(variants);
    }
    // Shaders of a folder change from start to start.
    let keeps = gpu.caps().shaders.is_none();
    let kept = gpu.found(KIND, &key(gpu), EXTENSION).filter(|_| keeps);
    let mut known = kept.map(|kept| read(kept.as_bytes(), &key(gpu))).unwrap_or_default();
    let before = known.len();
    let mut used = variants.clone();
    for (part, case) in variants.first_cases(gpu.caps()) {
        let name = case.to_string();
        let fault = match known.get(&name) {
            Some(fault) => fault.clone(),
            None => fault(gpu, &case).await?,
        };
        if let Some(fault) = &fault {
            gpu.note(format!("a kernel is wrong on this driver, another form of it is used: {name}: {fault}"));
            used = used.with_part_of(part, portable);
        }
        known.insert(name, fault);
    }
    if keeps && known.len() > before {
        gpu.keep(KIND, &key(gpu), EXTENSION, format!("{:#}", json!({ "key": key(gpu), "cases": known })));
    }
    Ok(used)
}

/// What is wrong with a form on this device.
async fn fault(gpu: &Gpu, case: &Case) -> Result<Option<String>> {
    match case.run(gpu, Plant::Nothing).await {
        Ok(Ok(_)) => Ok(None),
        Ok(Err(fault)) => Ok(Some(fault.to_string())),
        // A form that the driver refuses is no better than a wrong one; a lost device or a lack of memory says nothing about it.
        Err(crate::Error::Gpu { problem, .. }) => Ok(Some(problem)),
        Err(error) => Err(error),
    }
}

/// Adapter, driver, what is switched off, and the kernels' source.
fn key(gpu: &Gpu) -> String {
    let caps = gpu.caps();
    let (version, shaders) = (env!("CARGO_PKG_VERSION"), env!("PEREGRINE_SHADERS_HASH"));
    let switches = (caps.subgroups, caps.f16, caps.binding_limit, caps.checked);
    format!("{} · {version} {shaders} · {switches:?}", gpu.info())
}

/// What is kept, if it is of this key.
fn read(kept: &[u8], key: &str) -> Known {
    let kept: Option<Value> = serde_json::from_slice(kept).ok().filter(|kept: &Value| kept["key"] == key);
    let cases = kept.as_ref().and_then(|kept| kept["cases"].as_object());
    let case = |(name, fault): (&String, &Value)| (name.clone(), fault.as_str().map(str::to_owned));
    cases.into_iter().flatten().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_of_another_driver_or_is_damaged_is_not_believed() {
        let kept = json!({ "key": "a driver", "cases": { "matvec": null, "scan": "y[0] is wrong" } }).to_string();
        let known = read(kept.as_bytes(), "a driver");
        assert_eq!(known["matvec"], None);
        assert_eq!(known["scan"].as_deref(), Some("y[0] is wrong"));
        assert!(read(kept.as_bytes(), "another driver").is_empty());
        assert!(read(&kept.as_bytes()[..20], "a driver").is_empty());
        assert!(read(b"{}", "a driver").is_empty());
    }
}
