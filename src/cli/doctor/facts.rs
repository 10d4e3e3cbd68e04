//! What this machine has, as far as it matters for finding a GPU: gathered once, so that diagnoses are functions of it.

use peregrine::gpu::{AdapterInfo, VARIABLES, adapters};
use std::path::{Path, PathBuf};

/// The kind of operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    Linux,
    Windows,
    MacOs,
    Other,
}

/// A device file of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderNode {
    pub path: PathBuf,
    /// Whether this user may open it for reading and writing.
    pub usable: bool,
}

/// A folder that the program writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    pub path: PathBuf,
    /// Why nothing can be written there; `None`: it can.
    pub problem: Option<String>,
}

/// What this machine has.
#[derive(Debug, Clone)]
pub struct Facts {
    pub system: System,
    /// The adapters that wgpu lists.
    pub adapters: Vec<AdapterInfo>,
    /// Variables that decide which adapters exist, with their values.
    pub variables: Vec<(String, String)>,
    /// Whether the Vulkan loader's library exists; `None` where it is not looked for.
    pub loader: Option<bool>,
    /// Files that name a Vulkan driver, by their file names.
    pub driver_files: Vec<String>,
    pub render_nodes: Vec<RenderNode>,
    /// PCI ids of the vendors of display controllers.
    pub vendors: Vec<u32>,
    /// The kind of container that this runs in.
    pub container: Option<String>,
    /// The kernel has NVIDIA's driver.
    pub nvidia_module: bool,
    /// `NVIDIA_DRIVER_CAPABILITIES`.
    pub nvidia_capabilities: Option<String>,
    /// This is the Windows Subsystem for Linux.
    pub wsl: bool,
    /// Whether dxcompiler.dll is beside the program or on the path; `None` where it is not needed.
    pub dxcompiler: Option<bool>,
    /// The folder for compiled pipelines and tuning; `None`: it is turned off, or there is none.
    pub cache: Option<Folder>,
    /// The folder of downloaded models; `None`: there is none.
    pub models: Option<Folder>,
}

/// Folders in which the Vulkan loader looks for files that name drivers, below the root and below the home folder.
const DRIVER_FOLDERS: [&str; 4] =
    ["usr/share/vulkan/icd.d", "usr/local/share/vulkan/icd.d", "etc/vulkan/icd.d", "usr/local/etc/vulkan/icd.d"];
/// Where distributions put libraries.
const LIBRARY_FOLDERS: [&str; 9] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "lib64",
    "lib",
    "usr/local/lib",
    "run/opengl-driver/lib",
    "run/current-system/sw/lib",
];

impl Facts {
    /// Those of this machine.
    pub fn gather(cache: Option<PathBuf>, models: Option<PathBuf>) -> Self {
        let system = match std::env::consts::OS {
            "linux" => System::Linux,
            "windows" => System::Windows,
            "macos" => System::MacOs,
            _ => System::Other,
        };
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let variables = VARIABLES.iter().filter_map(|(name, _)| Some(((*name).to_owned(), variable(name)?))).collect();
        let root = Path::new("/");
        let linux = system == System::Linux;
        Facts {
            system,
            adapters: adapters(),
            variables,
            loader: linux.then(|| has_loader(root, variable("LD_LIBRARY_PATH"))),
            driver_files: if linux { driver_files(root) } else { vec![] },
            render_nodes: if linux { render_nodes(root) } else { vec![] },
            vendors: if linux { vendors(root) } else { vec![] },
            container: if linux { container(root, variable("container")) } else { None },
            nvidia_module: linux && root.join("proc/driver/nvidia/version").exists(),
            nvidia_capabilities: variable("NVIDIA_DRIVER_CAPABILITIES"),
            wsl: linux && is_wsl(root),
            dxcompiler: (system == System::Windows).then(|| has_dxcompiler(variable("PATH"))),
            cache: cache.map(Folder::tried),
            models: models.map(Folder::tried),
        }
    }
}

impl Folder {
    /// Tries to write to a folder. One that does not exist is tried by its nearest parent; nothing is left behind.
    fn tried(path: PathBuf) -> Self {
        let nearest = path.ancestors().find(|dir| dir.exists()).unwrap_or(&path);
        let problem = match tempfile::tempfile_in(nearest) {
            Ok(_) => None,
            Err(problem) => Some(problem.to_string()),
        };
        Folder { path, problem }
    }
}

/// The names of the files in a folder that satisfy `wanted`, sorted.
fn names(dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| wanted(name));
    names.sort();
    names
}

fn has_loader(root: &Path, library_path: Option<String>) -> bool {
    let of_variable = library_path.unwrap_or_default();
    let folders = LIBRARY_FOLDERS.iter().map(|dir| root.join(dir));
    let mut folders = folders.chain(of_variable.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from));
    folders.any(|dir| dir.join("libvulkan.so.1").exists())
}

fn driver_files(root: &Path) -> Vec<String> {
    DRIVER_FOLDERS.iter().flat_map(|dir| names(&root.join(dir), |name| name.ends_with(".json"))).collect()
}

fn render_nodes(root: &Path) -> Vec<RenderNode> {
    let dir = root.join("dev/dri");
    let nodes = names(&dir, |name| name.starts_with("renderD")).into_iter().map(|name| dir.join(name));
    let usable = |path: &Path| std::fs::File::options().read(true).write(true).open(path).is_ok();
    nodes.map(|path| RenderNode { usable: usable(&path), path }).collect()
}

/// The vendors of PCI devices of class 03, display controllers.
fn vendors(root: &Path) -> Vec<u32> {
    let dir = root.join("sys/bus/pci/devices");
    let number = |path: PathBuf| {
        let text = std::fs::read_to_string(path).ok()?;
        u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
    };
    let devices = names(&dir, |_| true).into_iter().map(|name| dir.join(name));
    let displays = devices.filter(|device| number(device.join("class")).is_some_and(|class| class >> 16 == 3));
    displays.filter_map(|device| number(device.join("vendor"))).collect()
}

fn container(root: &Path, variable: Option<String>) -> Option<String> {
    let file = |path: &str, name: &str| root.join(path).exists().then(|| name.to_owned());
    let cgroup = || {
        let text = std::fs::read_to_string(root.join("proc/1/cgroup")).ok()?;
        ["docker", "kubepods", "containerd", "lxc"].into_iter().find(|name| text.contains(name)).map(str::to_owned)
    };
    file(".dockerenv", "docker").or_else(|| file("run/.containerenv", "podman")).or(variable).or_else(cgroup)
}

fn is_wsl(root: &Path) -> bool {
    std::fs::read_to_string(root.join("proc/version")).is_ok_and(|text| text.to_lowercase().contains("microsoft"))
}

fn has_dxcompiler(path: Option<String>) -> bool {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    let path = path.unwrap_or_default();
    let folders = beside.into_iter().chain(std::env::split_paths(&path));
    folders.into_iter().any(|dir| dir.join("dxcompiler.dll").exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_linux_machines_files_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(!has_loader(root, None) && driver_files(root).is_empty() && render_nodes(root).is_empty());
        assert!(vendors(root).is_empty() && container(root, None).is_none() && !is_wsl(root));
        write(root, "usr/lib64/libvulkan.so.1", "");
        write(root, "usr/share/vulkan/icd.d/radeon_icd.x86_64.json", "{}");
        write(root, "usr/share/vulkan/icd.d/README", "");
        write(root, "dev/dri/renderD128", "");
        write(root, "dev/dri/card0", "");
        for (device, class, vendor) in
            [("0000:01:00.0", "0x030000\n", "0x10de\n"), ("0000:02:00.0", "0x020000\n", "0x8086\n")]
        {
            write(root, &format!("sys/bus/pci/devices/{device}/class"), class);
            write(root, &format!("sys/bus/pci/devices/{device}/vendor"), vendor);
        }
        write(root, "proc/1/cgroup", "0::/kubepods/besteffort/x\n");
        write(root, "proc/version", "Linux version 5.15.90.1-microsoft-standard-WSL2");
        assert!(has_loader(root, None));
        assert_eq!(driver_files(root), ["radeon_icd.x86_64.json"]);
        let nodes = render_nodes(root);
        assert!(nodes.len() == 1 && nodes[0].usable && nodes[0].path.ends_with("renderD128"), "{nodes:?}");
        assert_eq!(vendors(root), [0x10de]);
        assert_eq!(container(root, None).as_deref(), Some("kubepods"));
        assert!(is_wsl(root));
        write(root, "run/.containerenv", "");
        assert_eq!(container(root, None).as_deref(), Some("podman"));
    }

    #[test]
    #[cfg(unix)] // its paths are separated by colons
    fn the_loader_is_found_where_a_variable_says() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "libs/libvulkan.so.1", "");
        let path = format!("/nowhere:{}", dir.path().join("libs").display());
        assert!(has_loader(&dir.path().join("root"), Some(path)));
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_known_and_nothing_is_left_in_one_that_can() {
        let dir = tempfile::tempdir().unwrap();
        let fine = Folder::tried(dir.path().join("not/yet/there"));
        assert_eq!(fine.problem, None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        write(dir.path(), "file", "");
        assert!(Folder::tried(dir.path().join("file")).problem.is_some());
    }
}
