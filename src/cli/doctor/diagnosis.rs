//! What is wrong with this machine's drivers, and what to install: functions of the facts.

use super::facts::{Facts, Folder, System};

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Fine,
    /// It works, but could be better.
    Note,
    /// Something does not work.
    Problem,
}

/// A finding, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    pub said: String,
    pub advice: Option<String>,
}

impl Finding {
    fn fine(said: impl Into<String>) -> Self {
        Finding { level: Level::Fine, said: said.into(), advice: None }
    }

    fn note(said: impl Into<String>, advice: impl Into<String>) -> Self {
        Finding { level: Level::Note, said: said.into(), advice: Some(advice.into()) }
    }

    fn problem(said: impl Into<String>, advice: impl Into<String>) -> Self {
        Finding { level: Level::Problem, said: said.into(), advice: Some(advice.into()) }
    }
}

const NVIDIA: u32 = 0x10de;
const AMD: [u32; 2] = [0x1002, 0x1022];
const INTEL: u32 = 0x8086;

/// Every finding, in the order in which to mend things.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    all.extend(adapters(facts));
    if !has_gpu(facts) {
        all.extend(hidden(facts));
        all.extend(loader(facts));
        all.extend(drivers(facts));
        all.extend(render_nodes(facts));
        all.extend(nvidia_in_a_container(facts));
        all.extend(wsl(facts));
        all.extend(other_systems(facts));
    }
    all.extend(dxcompiler(facts));
    all.extend(folder(
        facts.cache.as_ref(),
        "the cache of pipelines",
        "every start compiles all kernels",
        "PEREGRINE_CACHE",
    ));
    all.extend(folder(facts.models.as_ref(), "the cache of models", "no model can be downloaded", "HF_HOME"));
    all
}

fn has_gpu(facts: &Facts) -> bool {
    facts.adapters.iter().any(|adapter| !adapter.cpu && adapter.unfit.is_none())
}

/// Whether the machine has a GPU, whatever its drivers are.
fn has_hardware(facts: &Facts) -> bool {
    facts.nvidia_module || facts.wsl || facts.vendors.iter().any(|vendor| is_known(*vendor))
}

fn is_known(vendor: u32) -> bool {
    vendor == NVIDIA || vendor == INTEL || AMD.contains(&vendor)
}

fn adapters(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    for adapter in &facts.adapters {
        all.push(match &adapter.unfit {
            Some(why) => {
                Finding::note(format!("{adapter} cannot be used: {why}"), "a newer driver may lift this limit")
            }
            None => Finding::fine(adapter.to_string()),
        });
    }
    let usable = facts.adapters.iter().any(|adapter| adapter.unfit.is_none());
    match (has_gpu(facts), usable) {
        (true, _) => {}
        (false, false) => all.push(Finding::problem("no adapter can be used", "follow what is said below")),
        (false, true) if has_hardware(facts) => all.push(Finding::problem(
            "this machine has a GPU, but only a software adapter is found: it is 10 to 1000 times slower",
            "follow what is said below",
        )),
        (false, true) => all.push(Finding::note(
            "only a software adapter is found, and no GPU on this machine",
            "small models run on it; for the 7B use a machine with a GPU",
        )),
    }
    all
}

fn hidden(facts: &Facts) -> Option<Finding> {
    let set: Vec<String> = facts.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    (!set.is_empty()).then(|| {
        Finding::problem(format!("the environment says {}, which may hide a GPU", set.join(" and ")), "unset it")
    })
}

fn loader(facts: &Facts) -> Option<Finding> {
    (facts.loader == Some(false)).then(|| {
        Finding::problem(
            "the Vulkan loader, libvulkan.so.1, is not found",
            "install it: apt-get install libvulkan1, dnf install vulkan-loader, or pacman -S vulkan-icd-loader",
        )
    })
}

/// The drivers that the machine's GPUs need, and that no file names.
fn drivers(facts: &Facts) -> Vec<Finding> {
    if facts.system != System::Linux {
        return vec![];
    }
    let named = |part: &str| facts.driver_files.iter().any(|file| file.contains(part));
    let mesa = "apt-get install mesa-vulkan-drivers, dnf install mesa-vulkan-drivers, or pacman -S ";
    let mut all = Vec::new();
    let missing =
        |what: &str, advice: String| Finding::problem(format!("no Vulkan driver of {what} is installed"), advice);
    if (facts.vendors.contains(&NVIDIA) || facts.nvidia_module) && !named("nvidia") && !named("nouveau") {
        let advice = match facts.container.is_some() {
            true => "it comes from the host: see below".to_owned(),
            false => "install NVIDIA's driver with its GL and Vulkan libraries (on Debian nvidia-driver, on Ubuntu nvidia-driver-NNN, \
                      not its -server or compute-only variant)"
                .to_owned(),
        };
        all.push(missing("NVIDIA", advice));
    }
    if facts.vendors.iter().any(|vendor| AMD.contains(vendor)) && !named("radeon") && !named("amd") {
        all.push(missing("AMD", format!("{mesa}vulkan-radeon")));
    }
    if facts.vendors.contains(&INTEL) && !named("intel") {
        all.push(missing("Intel", format!("{mesa}vulkan-intel")));
    }
    if facts.driver_files.is_empty() && all.is_empty() {
        all.push(missing("any kind", format!("{mesa}vulkan-swrast for one that runs on the CPU")));
    }
    all
}

fn render_nodes(facts: &Facts) -> Option<Finding> {
    if facts.system != System::Linux || facts.wsl {
        return None;
    }
    let refused: Vec<String> =
        facts.render_nodes.iter().filter(|node| !node.usable).map(|node| node.path.display().to_string()).collect();
    if !refused.is_empty() {
        return Some(Finding::problem(
            format!("this user may not open {}", refused.join(" and ")),
            "sudo usermod -aG render,video $USER, and log in again; in a container, add the group with --group-add",
        ));
    }
    let by_mesa = facts.vendors.iter().any(|vendor| *vendor == INTEL || AMD.contains(vendor));
    (by_mesa && facts.render_nodes.is_empty()).then(|| match &facts.container {
        Some(kind) => Finding::problem(
            format!("this {kind} container has no /dev/dri"),
            "start it with --device /dev/dri (in Kubernetes, with the device plugin of the GPU's vendor)",
        ),
        None => Finding::problem(
            "there is no /dev/dri/renderD*: the kernel has no driver for the GPU",
            "look for amdgpu, i915 or xe in the output of dmesg; a kernel or firmware (linux-firmware) may be too old",
        ),
    })
}

fn nvidia_in_a_container(facts: &Facts) -> Option<Finding> {
    let kind = facts.container.as_ref()?;
    let named = facts.driver_files.iter().any(|file| file.contains("nvidia"));
    if !facts.nvidia_module {
        return None;
    }
    let capabilities = facts.nvidia_capabilities.as_deref().unwrap_or_default();
    let graphics = capabilities.split(',').map(str::trim).any(|one| one == "all" || one == "graphics");
    let advice = "start it with --gpus all -e NVIDIA_DRIVER_CAPABILITIES=all, by NVIDIA's container toolkit";
    match (graphics, named) {
        (false, _) => {
            let now = if capabilities.is_empty() { "is not set" } else { capabilities };
            let said = format!(
                "this {kind} container has NVIDIA's driver without Vulkan: NVIDIA_DRIVER_CAPABILITIES {now} lacks graphics"
            );
            Some(Finding::problem(said, advice))
        }
        (true, false) => Some(Finding::problem(
            format!("this {kind} container lacks nvidia_icd.json, although NVIDIA_DRIVER_CAPABILITIES has graphics"),
            format!("{advice}; an older toolkit may need an update, or the host's /usr/share/vulkan/icd.d mounted"),
        )),
        (true, true) => None,
    }
}

fn wsl(facts: &Facts) -> Option<Finding> {
    facts.wsl.then(|| {
        Finding::problem(
            "the Windows Subsystem for Linux has no Vulkan driver of the GPU's vendor",
            "run peregrine on Windows itself, or install Mesa with its Dozen driver (a dzn_icd file in /usr/share/vulkan/icd.d)",
        )
    })
}

fn other_systems(facts: &Facts) -> Option<Finding> {
    match facts.system {
        System::MacOs => Some(Finding::problem(
            "Metal lists no GPU",
            "virtual machines have none unless they are set up to; on a Mac itself, update macOS",
        )),
        System::Windows => Some(Finding::problem(
            "neither Vulkan nor Direct3D 12 lists a GPU",
            "install the driver of the GPU's vendor, not the one of Windows Update; over Remote Desktop, try at the machine itself",
        )),
        System::Linux | System::Other => None,
    }
}

/// Direct3D without DXC has no subgroups and no f16.
fn dxcompiler(facts: &Facts) -> Option<Finding> {
    let by_dx12 = facts.adapters.iter().filter(|adapter| adapter.unfit.is_none()).any(|a| a.backend == "Dx12");
    let by_vulkan = facts.adapters.iter().any(|adapter| adapter.unfit.is_none() && adapter.backend == "Vulkan");
    (facts.dxcompiler == Some(false) && by_dx12 && !by_vulkan).then(|| {
        Finding::note(
            "dxcompiler.dll is not found: Direct3D 12 compiles with the older FXC, without subgroups and f16",
            "put dxcompiler.dll of https://github.com/microsoft/DirectXShaderCompiler/releases beside peregrine.exe",
        )
    })
}

fn folder(folder: Option<&Folder>, what: &str, without: &str, variable: &str) -> Option<Finding> {
    let Folder { path, problem } = folder?;
    let path = path.display();
    Some(match problem {
        None => Finding::fine(format!("{what} is {path}")),
        Some(problem) => Finding::problem(
            format!("{what}, {path}, cannot be written to ({problem}): {without}"),
            format!("make it writable, or set {variable} to another folder"),
        ),
    })
}
