//! The adapters of this machine, the choice of one, and likely reasons for finding none.

use super::caps::Switches;
use super::limits::unfit;
use crate::error::{Error, Result};
use std::sync::OnceLock;

/// Environment variables of wgpu and the Vulkan loader that decide which adapters exist, each with its meaning.
pub const VARIABLES: &[(&str, &str)] = &[
    (BACKEND, "backends to look for adapters, separated by commas: vulkan, metal, dx12, gl"),
    ("VK_DRIVER_FILES", "Vulkan driver files to use instead of the system's"),
    ("VK_ICD_FILENAMES", "older name of VK_DRIVER_FILES"),
    ("VK_LOADER_DRIVERS_SELECT", "the only Vulkan drivers to load"),
    ("VK_LOADER_DRIVERS_DISABLE", "Vulkan drivers not to load"),
];

const BACKEND: &str = "WGPU_BACKEND";

/// Which adapter to open.
///
/// ```no_run
/// # fn main() -> peregrine::Result<()> {
/// use peregrine::{AdapterChoice, Gpu};
/// let gpu = Gpu::open(&AdapterChoice::parse("radeon"))?; // an index, or part of a name
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AdapterChoice {
    /// `PEREGRINE_ADAPTER` if set, else the first of [`adapters_async`]: a real GPU before a CPU.
    #[default]
    Best,
    /// An index into [`adapters_async`].
    Index(usize),
    /// A part of the adapter's name, case-insensitive; the first match.
    Name(String),
    /// User input: an index if there is such an adapter, else a part of a name, such as `4090`.
    Text(String),
}

impl AdapterChoice {
    /// Parses user input.
    pub fn parse(text: &str) -> Self {
        AdapterChoice::Text(text.to_owned())
    }

    /// The index that it selects among adapters with these names.
    fn index_in(&self, names: &[&str]) -> Option<usize> {
        let index = |index: usize| (index < names.len()).then_some(index);
        let named = |part: &str| {
            let part = part.to_lowercase();
            names.iter().position(|name| name.to_lowercase().contains(&part))
        };
        match self {
            AdapterChoice::Best => index(0),
            AdapterChoice::Index(number) => index(*number),
            AdapterChoice::Name(part) => named(part),
            AdapterChoice::Text(text) => text.trim().parse().ok().and_then(index).or_else(|| named(text.trim())),
        }
    }
}

impl std::fmt::Display for AdapterChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AdapterChoice::Best => f.write_str("the best"),
            AdapterChoice::Index(index) => index.fmt(f),
            AdapterChoice::Name(text) | AdapterChoice::Text(text) => f.write_str(text),
        }
    }
}

/// An adapter as the system lists it.
#[derive(Debug, Clone)]
pub struct AdapterInfo {
    /// Name of the device.
    pub name: String,
    /// "Vulkan", "Metal", "Dx12" or "Gl".
    pub backend: String,
    /// "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
    pub kind: &'static str,
    /// Driver name and version.
    pub driver: String,
    /// The PCI ids of its vendor and of the device; 0 where the backend does not tell.
    pub ids: [u32; 2],
    /// The adapter is a CPU.
    pub cpu: bool,
    /// Why it cannot be used; `None`: it can.
    pub unfit: Option<String>,
}

impl AdapterInfo {
    pub(super) fn of(adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        AdapterInfo {
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => "discrete GPU",
                wgpu::DeviceType::IntegratedGpu => "integrated GPU",
                wgpu::DeviceType::VirtualGpu => "virtual GPU",
                wgpu::DeviceType::Cpu => "CPU",
                wgpu::DeviceType::Other => "other",
            },
            ids: [info.vendor, info.device],
            cpu: info.device_type == wgpu::DeviceType::Cpu,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            backend: format!("{:?}", info.backend),
            unfit: unfit(&adapter.limits()),
            name: info.name,
        }
    }
}

impl std::fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {}, {})", self.name, self.backend, self.kind, self.driver)
    }
}

/// Backends to try before GL, which lists the same devices again.
const NATIVE: wgpu::Backends = match cfg!(target_arch = "wasm32") {
    true => wgpu::Backends::BROWSER_WEBGPU,
    false => wgpu::Backends::VULKAN.union(wgpu::Backends::METAL).union(wgpu::Backends::DX12),
};

/// The backends that a value of `WGPU_BACKEND` names; `None` if it is not set, or empty.
fn asked_for(value: Option<String>) -> Result<Option<wgpu::Backends>> {
    let Some(value) = value.filter(|value| !value.trim().is_empty()) else { return Ok(None) };
    let mut asked = wgpu::Backends::empty();
    for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let backend = wgpu::Backends::from_comma_list(name);
        if backend.is_empty() {
            let problem =
                format!("{name:?} is no backend; there are vulkan, metal, dx12 and gl: correct it, or unset it");
            return Err(Error::BadSwitch { switch: BACKEND, value, problem });
        }
        asked |= backend;
    }
    Ok(Some(asked))
}

/// The process's instances, one for native backends and one for GL: some drivers fail if they are loaded twice.
fn instance(backends: wgpu::Backends) -> &'static wgpu::Instance {
    static INSTANCES: [OnceLock<wgpu::Instance>; 2] = [const { OnceLock::new() }; 2];
    let gl_alone = backends == wgpu::Backends::GL;
    INSTANCES[usize::from(gl_alone)].get_or_init(|| {
        wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends,
            flags: wgpu::InstanceFlags::empty().with_env(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        })
    })
}

/// Usable adapters first, then GPUs before CPUs, else in the system's order. GL is tried only if no other backend has an adapter.
async fn sorted_adapters() -> Result<Vec<wgpu::Adapter>> {
    let listed = async |backends: wgpu::Backends| match backends.is_empty() {
        true => vec![],
        false => instance(backends).enumerate_adapters(wgpu::Backends::all()).await,
    };
    let asked = asked_for(std::env::var_os(BACKEND).map(|value| value.to_string_lossy().into_owned()))?;
    let allowed = asked.unwrap_or(NATIVE | wgpu::Backends::GL);
    let mut adapters = listed(allowed.difference(wgpu::Backends::GL)).await;
    if adapters.is_empty() {
        adapters = listed(allowed & wgpu::Backends::GL).await;
    }
    adapters.sort_by_key(|adapter| {
        let kind = match adapter.get_info().device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        };
        (unfit(&adapter.limits()).is_some(), kind)
    });
    Ok(adapters)
}

/// The adapters of this machine; their position in the list is their index. Empty if `WGPU_BACKEND` is invalid, which is an error
/// when an adapter is opened.
pub async fn adapters_async() -> Vec<AdapterInfo> {
    sorted_adapters().await.unwrap_or_default().iter().map(AdapterInfo::of).collect()
}

/// The adapter to open.
pub(super) async fn pick(choice: &AdapterChoice, switches: &Switches) -> Result<wgpu::Adapter> {
    let mut adapters = sorted_adapters().await?;
    let infos: Vec<AdapterInfo> = adapters.iter().map(AdapterInfo::of).collect();
    let choice = match (choice, &switches.adapter) {
        (AdapterChoice::Best, Some(text)) => &AdapterChoice::parse(text),
        _ => choice,
    };
    if infos.is_empty() {
        return Err(Error::NoAdapter { why: why_none(|name| std::env::var(name).ok()) });
    }
    let names: Vec<&str> = infos.iter().map(|info| info.name.as_str()).collect();
    let index = choice.index_in(&names).ok_or_else(|| Error::UnknownDevice {
        wanted: choice.to_string(),
        have: names.iter().enumerate().map(|(i, name)| format!("{i}: {name}")).collect(),
    })?;
    if let Some(why) = &infos[index].unfit {
        return Err(Error::NoAdapter { why: format!("{} lacks what peregrine needs: {why}", infos[index].name) });
    }
    Ok(adapters.swap_remove(index))
}

/// Why no adapter may have been found, and what to do: an environment variable may hide the existing ones.
fn why_none(variable: impl Fn(&str) -> Option<String>) -> String {
    const INSTALL: &str = if cfg!(target_arch = "wasm32") {
        "use a browser with WebGPU (Chrome or Edge 113, Safari 26, Firefox 141, or newer), over https or from localhost"
    } else if cfg!(windows) {
        "install the driver of the graphics card from its vendor"
    } else {
        "install a Vulkan driver (on Debian or Ubuntu: apt-get install mesa-vulkan-drivers libvulkan1)"
    };
    let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let hiding: Vec<String> = VARIABLES.iter().filter_map(|(name, _)| Some(format!("{name}={}", set(name)?))).collect();
    match hiding.is_empty() {
        true => INSTALL.to_owned(),
        false => format!("the environment says {}, which may hide one: unset it, or {INSTALL}", hiding.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_are_no_index_are_a_part_of_a_name() {
        let names = ["NVIDIA GeForce RTX 4090", "Intel(R) UHD Graphics 770", "llvmpipe (LLVM 15.0.6, 256 bits)"];
        let place = |text: &str| AdapterChoice::parse(text).index_in(&names);
        for (text, expected) in [
            ("0", Some(0)),
            ("2", Some(2)),
            ("4090", Some(0)),
            ("770", Some(1)),
            ("15", Some(2)),
            ("3", None),
            ("rtx", Some(0)),
            ("uhd graphics", Some(1)),
            (" 1 ", Some(1)),
            ("-1", None),
            ("18446744073709551616", None),
            ("Voodoo", None),
        ] {
            assert_eq!(place(text), expected, "{text:?}");
        }
        assert_eq!(AdapterChoice::Index(770).index_in(&names), None);
        assert_eq!(AdapterChoice::Name("0".to_owned()).index_in(&names), Some(0));
        assert_eq!(AdapterChoice::Best.index_in(&names), Some(0));
        assert_eq!(AdapterChoice::Best.index_in(&[]), None);
    }

    #[test]
    fn interfaces_are_read_or_refused_by_name() {
        let asked = |value: &str| asked_for(Some(value.to_owned()));
        assert_eq!(asked_for(None).unwrap(), None);
        assert_eq!([asked("").unwrap(), asked(" ").unwrap()], [None, None]);
        assert_eq!(asked("GL, vulkan,").unwrap(), Some(wgpu::Backends::GL | wgpu::Backends::VULKAN));
        for value in ["foo", "vulkan,foo"] {
            let said = asked(value).unwrap_err().to_string();
            assert!(said.contains(&format!("WGPU_BACKEND={value:?}")) && said.contains("\"foo\""), "{said}");
        }
    }

    #[test]
    fn variables_that_hide_adapters_are_named_where_there_is_none() {
        assert!(!why_none(|_| None).contains("environment"));
        assert!(!why_none(|_| Some(String::new())).contains("environment"));
        for (name, _) in VARIABLES {
            let said = why_none(|other| (other == *name).then(|| "x".to_owned()));
            assert!(said.contains(&format!("{name}=x, which may hide one")) && said.contains("install"), "{said}");
        }
    }
}
