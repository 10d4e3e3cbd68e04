//! Each diagnosis, from made-up facts.

use super::diagnosis::{Finding, Level, findings};
use super::facts::{Facts, Folder, RenderNode, System};
use peregrine::gpu::AdapterInfo;
use std::path::PathBuf;

fn adapter(name: &str, backend: &str, cpu: bool) -> AdapterInfo {
    AdapterInfo {
        name: name.to_owned(),
        backend: backend.to_owned(),
        kind: if cpu { "CPU" } else { "discrete GPU" },
        driver: "1.0".to_owned(),
        ids: [0, 0],
        cpu,
        unfit: None,
    }
}

fn folder(path: &str) -> Option<Folder> {
    Some(Folder { path: path.into(), problem: None })
}

/// A Linux machine with an AMD GPU on which everything works.
fn fine() -> Facts {
    Facts {
        system: System::Linux,
        adapters: vec![adapter("Radeon", "Vulkan", false), adapter("llvmpipe", "Vulkan", true)],
        variables: vec![],
        loader: Some(true),
        driver_files: vec!["radeon_icd.x86_64.json".to_owned(), "lvp_icd.x86_64.json".to_owned()],
        render_nodes: vec![RenderNode { path: "/dev/dri/renderD128".into(), usable: true }],
        vendors: vec![0x1002],
        container: None,
        nvidia_module: false,
        nvidia_capabilities: None,
        wsl: false,
        dxcompiler: None,
        cache: folder("/home/x/.cache/peregrine"),
        models: folder("/home/x/.cache/huggingface"),
    }
}

/// The same, where only the CPU is found.
fn cpu_only() -> Facts {
    Facts { adapters: vec![adapter("llvmpipe", "Vulkan", true)], ..fine() }
}

fn problems(facts: &Facts) -> Vec<Finding> {
    findings(facts).into_iter().filter(|finding| finding.level == Level::Problem).collect()
}

/// Checks that a problem is found whose text and advice have these words.
fn finds(facts: &Facts, words: &[&str]) {
    let problems = problems(facts);
    let text = |finding: &Finding| format!("{} {}", finding.said, finding.advice.clone().unwrap_or_default());
    let found = problems.iter().any(|finding| words.iter().all(|word| text(finding).contains(word)));
    assert!(found, "{words:?} is not in one of {problems:#?}");
}

#[test]
fn nothing_is_wrong_with_a_working_machine() {
    let all = findings(&fine());
    assert!(all.iter().all(|finding| finding.level == Level::Fine), "{all:#?}");
    assert!(all.iter().any(|finding| finding.said.contains("Radeon")));
}

#[test]
fn a_machine_without_a_gpu_is_only_told_so() {
    let facts = Facts { vendors: vec![], render_nodes: vec![], ..cpu_only() };
    assert_eq!(problems(&facts), []);
    assert!(findings(&facts).iter().any(|finding| finding.level == Level::Note && finding.said.contains("software")));
}

#[test]
fn a_gpu_beside_a_software_adapter_is_a_problem() {
    finds(&cpu_only(), &["has a GPU", "only a software adapter"]);
}

#[test]
fn no_adapter_is_a_problem() {
    finds(&Facts { adapters: vec![], ..fine() }, &["no adapter"]);
}

#[test]
fn an_adapter_that_lacks_something_is_named() {
    let small = AdapterInfo { unfit: Some("it has 4 storage buffers".to_owned()), ..adapter("Voodoo", "Gl", false) };
    let facts = Facts { adapters: vec![small], ..fine() };
    assert!(
        findings(&facts).iter().any(|finding| finding.said.contains("Voodoo") && finding.said.contains("4 storage"))
    );
    finds(&facts, &["no adapter"]);
}

#[test]
fn a_missing_loader_is_found() {
    finds(
        &Facts { loader: Some(false), adapters: vec![], ..fine() },
        &["libvulkan.so.1", "apt-get install libvulkan1"],
    );
}

#[test]
fn a_missing_driver_is_named_by_the_gpus_vendor() {
    let without =
        |vendor: u32| Facts { vendors: vec![vendor], driver_files: vec!["lvp_icd.json".to_owned()], ..cpu_only() };
    finds(&without(0x1002), &["AMD", "mesa-vulkan-drivers", "vulkan-radeon"]);
    finds(&without(0x8086), &["Intel", "vulkan-intel"]);
    finds(&without(0x10de), &["NVIDIA", "nvidia-driver"]);
    let none = Facts { vendors: vec![], driver_files: vec![], adapters: vec![], ..fine() };
    finds(&none, &["any kind", "mesa-vulkan-drivers"]);
}

#[test]
fn a_variable_that_hides_the_gpu_is_named() {
    let variables = vec![("VK_DRIVER_FILES".to_owned(), "/lvp.json".to_owned())];
    finds(&Facts { variables: variables.clone(), ..cpu_only() }, &["VK_DRIVER_FILES=/lvp.json", "unset"]);
    assert_eq!(problems(&Facts { variables, ..fine() }), [], "it hides nothing");
}

#[test]
fn a_render_node_that_may_not_be_opened_is_found() {
    let render_nodes = vec![RenderNode { path: "/dev/dri/renderD128".into(), usable: false }];
    finds(&Facts { render_nodes, ..cpu_only() }, &["/dev/dri/renderD128", "usermod -aG render"]);
}

#[test]
fn a_missing_render_node_is_the_containers_or_the_kernels_fault() {
    let facts = Facts { render_nodes: vec![], ..cpu_only() };
    finds(&facts, &["/dev/dri/renderD*", "dmesg"]);
    finds(&Facts { container: Some("docker".to_owned()), ..facts }, &["docker container", "--device /dev/dri"]);
}

#[test]
fn a_container_without_graphics_is_told_how_to_start() {
    let nvidia = Facts {
        vendors: vec![0x10de],
        nvidia_module: true,
        container: Some("docker".to_owned()),
        driver_files: vec!["lvp_icd.json".to_owned()],
        ..cpu_only()
    };
    finds(&nvidia, &["NVIDIA_DRIVER_CAPABILITIES is not set", "NVIDIA_DRIVER_CAPABILITIES=all"]);
    let capabilities = Some("compute,utility".to_owned());
    let compute = Facts { nvidia_capabilities: capabilities, ..nvidia.clone() };
    finds(&compute, &["compute,utility lacks graphics"]);
    let all = Facts { nvidia_capabilities: Some("compute, graphics".to_owned()), ..nvidia };
    finds(&all, &["nvidia_icd.json"]);
    let mounted = Facts { driver_files: vec!["nvidia_icd.json".to_owned()], ..all };
    assert!(!problems(&mounted).iter().any(|finding| finding.said.contains("nvidia_icd")), "{:#?}", problems(&mounted));
}

#[test]
fn wsl_is_told_of_its_two_ways() {
    let facts = Facts { wsl: true, vendors: vec![], render_nodes: vec![], ..cpu_only() };
    finds(&facts, &["Windows Subsystem", "Dozen"]);
}

#[test]
fn macos_and_windows_have_their_own_advice() {
    let elsewhere = |system| Facts {
        system,
        adapters: vec![],
        loader: None,
        driver_files: vec![],
        render_nodes: vec![],
        vendors: vec![],
        ..fine()
    };
    finds(&elsewhere(System::MacOs), &["Metal", "virtual machines"]);
    finds(&elsewhere(System::Windows), &["Direct3D 12", "driver of the GPU's vendor"]);
}

#[test]
fn direct3d_without_its_compiler_is_noted_where_there_is_no_vulkan() {
    let by_dx12 = Facts {
        system: System::Windows,
        adapters: vec![adapter("Radeon", "Dx12", false)],
        dxcompiler: Some(false),
        ..fine()
    };
    let noted = |facts: &Facts| findings(facts).iter().any(|finding| finding.said.contains("dxcompiler.dll"));
    assert!(noted(&by_dx12));
    assert!(!noted(&Facts { dxcompiler: Some(true), ..by_dx12.clone() }));
    assert!(!noted(&Facts { adapters: fine().adapters, ..by_dx12 }));
}

#[test]
fn a_folder_that_cannot_be_written_to_is_a_problem() {
    let refused =
        |path: &str| Some(Folder { path: PathBuf::from(path), problem: Some("permission denied".to_owned()) });
    finds(&Facts { cache: refused("/cache"), ..fine() }, &["/cache", "permission denied", "PEREGRINE_CACHE"]);
    finds(&Facts { models: refused("/models"), ..fine() }, &["/models", "HF_HOME"]);
    assert_eq!(problems(&Facts { cache: None, models: None, ..fine() }), []);
}
