//! The layers: a file uses its own layer and those below, and only src/gpu names wgpu.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The modules of the crate that each folder or file directly under `src/` may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &["error"]),
    ("input", &["input", "error"]),
    ("output", &["output", "error"]),
    ("hub", &["hub", "input", "output", "error"]),
    ("text", &["text", "input", "error"]),
    ("format", &["format", "input", "error"]),
    ("gpu", &["gpu", "output", "error"]),
    ("kernels", &["kernels", "gpu", "format", "error"]),
    ("model", &["model", "kernels", "gpu", "format", "input", "error"]),
    ("runtime", &["runtime", "model", "kernels", "gpu", "format", "text", "input", "output", "error"]),
    ("vision", &["vision", "runtime", "model", "kernels", "gpu", "format", "input", "error"]),
    ("openai", &["openai", "runtime", "text", "error"]),
    ("server", &["server", "openai", "runtime", "text", "error"]),
    ("eval", &["eval", "vision", "runtime", "model", "text", "error"]),
    ("bench", &["bench", "model", "kernels", "gpu", "format", "error"]),
    ("selftest", &["selftest", "runtime", "model", "kernels", "gpu", "format", "text", "error"]),
];

/// Interfaces, which wait for what they call. In every other layer only a file `blocking.rs` does.
const WAIT: &[&str] = &["bench", "cli", "eval", "selftest", "server"];

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Each source file below `src/` with its layer and text.
fn sources() -> Vec<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(&root).unwrap();
            let layer = inside.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
            (inside.display().to_string(), layer, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// Every `crate::x` in a text, and every `x` of `crate::{x, ..}`.
fn names_of_the_crate(text: &str) -> Vec<String> {
    let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    for piece in text.split("crate::").skip(1) {
        match piece.strip_prefix('{') {
            None => names.push(word(piece)),
            Some(list) => names.extend(items(list).into_iter().map(|item| word(item.trim()))),
        }
    }
    names
}

/// The items of a brace list whose opening brace has been consumed; nested braces belong to an item.
fn items(list: &str) -> Vec<String> {
    let (mut items, mut depth) = (vec![String::new()], 1);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => items.push(String::new()),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth > 1 || c != ',' {
            items.last_mut().unwrap().push(c);
        }
    }
    items
}

fn violations(sources: &[(String, String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, layer, text) in sources {
        let code: String =
            text.lines().filter(|l| !l.trim_start().starts_with("//")).map(|l| format!("{l}\n")).collect();
        if layer != "gpu" && code.contains("wgpu::") {
            found.push(format!("{file} names wgpu"));
        }
        // Only the edge waits: what is below it is async.
        let waits = WAIT.contains(&layer.as_str()) || file.ends_with("blocking.rs");
        let product = code.split("#[cfg(test)]").next().unwrap_or_default();
        if product.contains("block_on(") && !waits {
            found.push(format!("{file} blocks on a future"));
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| name == layer) else { continue };
        for name in names_of_the_crate(&code) {
            let is_layer = MAY_USE.iter().any(|(layer, _)| *layer == name) || name == "cli";
            if is_layer && !allowed.contains(&name.as_str()) {
                found.push(format!("{file} uses {name}"));
            }
        }
    }
    found
}

#[test]
fn no_layer_uses_a_higher_one() {
    let sources = sources();
    assert!(sources.len() > 25, "only {} files were found", sources.len());
    assert_eq!(violations(&sources), Vec::<String>::new());
}

#[test]
fn a_use_of_a_higher_layer_is_detected() {
    let file = |layer: &str, text: &str| (format!("{layer}/x.rs"), layer.to_owned(), text.to_owned());
    let bad = [
        file("gpu", "use crate::kernels::RowEntry;"),
        file("text", "use crate::{error::Error, gpu::Gpu};"),
        file("model", "fn f(device: wgpu::Device) {}"),
        // Inside nested braces, over several lines.
        file("text", "use crate::{\n    error::{Error, Result},\n    input::{self, json::{a, b}},\n    kernels,\n};"),
    ];
    let waiting = file("runtime", "fn f() { pollster::block_on(g()) }");
    assert_eq!(violations(&[waiting]), ["runtime/x.rs blocks on a future"]);
    let found = violations(&bad);
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(found[3], "text/x.rs uses kernels");
    let good = [
        file("runtime", "use crate::model::{Config, kernels}; // wgpu"),
        file("gpu", "use crate::{error::{Error, bench}}; wgpu::Device"),
    ];
    assert!(violations(&good).is_empty());
}

/// Files outside an architecture's folder that branch on its families. Unit tests in files of their own may name them.
fn branches_on_a_family(sources: &[(String, String, String)]) -> Vec<String> {
    let outside = |file: &str| !file.starts_with("model/mamba/") && !file.ends_with("/tests.rs");
    let names = |text: &str| ["Family::", "FalconMamba"].iter().any(|name| text.contains(name));
    sources.iter().filter(|(file, _, text)| outside(file) && names(text)).map(|(file, ..)| file.clone()).collect()
}

#[test]
fn only_its_own_folder_branches_on_the_family_of_a_mamba() {
    let sources = sources();
    assert!(sources.iter().any(|(file, ..)| file == "model/mamba/mod.rs"));
    assert_eq!(branches_on_a_family(&sources), Vec::<String>::new());
}

#[test]
fn a_branch_on_the_family_would_be_noticed() {
    let file = |path: &str, text: &str| (path.to_owned(), String::new(), text.to_owned());
    let text = "match family { Family::Mamba => 1, _ => 2 }";
    let files = [
        file("model/mamba/json.rs", text),
        file("runtime/snapshot/tests.rs", text),
        file("model/forward.rs", text),
        file("cli/inspect.rs", "matches!(config.family, F::FalconMamba { .. })"),
    ];
    assert_eq!(branches_on_a_family(&files), ["model/forward.rs", "cli/inspect.rs"]);
}

#[test]
fn every_layer_of_the_table_exists_and_none_is_missing() {
    let mut layers: Vec<String> = sources().into_iter().map(|(_, layer, _)| layer).collect();
    layers.sort();
    layers.dedup();
    layers.retain(|layer| !["lib", "main", "cli"].contains(&layer.as_str()));
    let mut table: Vec<&str> = MAY_USE.iter().map(|(layer, _)| *layer).collect();
    table.sort_unstable();
    assert_eq!(layers, table);
}

/// Folders whose files and folders import each other one way.
const ACYCLIC: &[&str] = &["gpu", "kernels", "kernels/linear", "runtime"];

/// What each file or folder directly in a folder imports from its siblings. Files are named from that folder on; what a name of
/// the folder's own module stands for, such as a re-export, counts as an import of `mod`.
fn imports(folder: &str, files: &[(String, String)]) -> BTreeMap<String, BTreeSet<String>> {
    let node = |file: &str| file.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
    let nodes: BTreeSet<String> = files.iter().map(|(file, _)| node(file)).collect();
    let absolute = format!("crate::{}::", folder.replace('/', "::"));
    let mut graph: BTreeMap<String, BTreeSet<String>> = nodes.iter().map(|n| (n.clone(), BTreeSet::new())).collect();
    for (file, text) in files {
        let from = node(file);
        let code = text.split("\nmod tests {").next().unwrap().lines();
        let code: String = code.filter(|l| !l.trim_start().starts_with("//")).map(|l| format!("{l}\n")).collect();
        // A macro's path is one of its caller.
        let code = code.replace("$crate::", "");
        let mut names = names_after(&absolute, &code);
        if from == "mod" {
            let own = nodes.iter().filter(|n| !names_after(&format!("{n}::"), &code).is_empty());
            names.extend(own.cloned());
        } else {
            names.extend(names_after(&"super::".repeat(file.split('/').count()), &code));
        }
        let to = names.into_iter().map(|name| if nodes.contains(&name) { name } else { "mod".to_owned() });
        graph.get_mut(&from).unwrap().extend(to.filter(|to| *to != from));
    }
    graph
}

/// Every `x` of `PREFIXx` and `PREFIX{x, ..}` where the prefix begins a path.
fn names_after(prefix: &str, code: &str) -> Vec<String> {
    let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => names.push(word(rest)),
            Some(list) => names.extend(items(list).into_iter().map(|item| word(item.trim()))),
        }
    }
    names.retain(|name| !name.is_empty() && name != "super" && name != "self");
    names
}

/// Nodes that reach themselves.
fn on_cycles(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<&str> {
    let reaches_itself = |start: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(node) = open.pop() {
            for next in graph.get(node).into_iter().flatten() {
                if next == start {
                    return true;
                }
                if seen.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        false
    };
    graph.keys().map(String::as_str).filter(|node| reaches_itself(node)).collect()
}

#[test]
fn files_of_a_folder_import_one_way() {
    for folder in ACYCLIC {
        let prefix = format!("{folder}/");
        let files: Vec<(String, String)> = sources()
            .into_iter()
            .filter_map(|(file, _, text)| Some((file.strip_prefix(&prefix)?.to_owned(), text)))
            .collect();
        let graph = imports(folder, &files);
        let edges: usize = graph.values().map(BTreeSet::len).sum();
        assert!(
            graph.len() > 8 && edges > graph.len(),
            "{folder}: {edges} imports of {} files were found",
            graph.len()
        );
        assert_eq!(on_cycles(&graph), Vec::<&str>::new(), "{folder}: {graph:#?}");
    }
}

#[test]
fn files_that_imported_each_other_would_be_noticed() {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let base = [file("mod.rs", "pub mod a;\npub use b::B;"), file("a.rs", "use super::b::B;"), file("b.rs", "")];
    assert!(on_cycles(&imports("gpu", &base)).is_empty());
    for (bad, cycle) in [
        // Through a path, through braces, from below the folder, through the folder's own module.
        (file("b.rs", "use crate::gpu::a::A;"), vec!["a", "b"]),
        (file("b.rs", "use crate::gpu::{\n    a::{A, C},\n};"), vec!["a", "b"]),
        (file("b/part.rs", "use super::super::a::A;"), vec!["a", "b"]),
        (file("b.rs", "fn f(gpu: &super::Gpu) {}"), vec!["b", "mod"]),
    ] {
        let files = [&base[..], std::slice::from_ref(&bad)].concat();
        assert_eq!(on_cycles(&imports("gpu", &files)), cycle, "{bad:?}");
    }
    for good in [
        "// use super::a::A;",
        "mod tests {\n    use super::a::A;",
        "use crate::kernels::a::A;",
        "use super::super::x;",
    ] {
        let files = [&base[..], &[file("b.rs", &format!("\n{good}"))]].concat();
        assert!(on_cycles(&imports("gpu", &files)).is_empty(), "{good}");
    }
}

/// Modules of the library that are not for applications.
fn hidden_modules() -> Vec<String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let hidden = page.split("#[doc(hidden)]\npub mod ").skip(1);
    hidden.map(|rest| rest.split(';').next().unwrap().to_owned()).collect()
}

/// The hidden modules that a text names.
fn names_of_hidden_modules(text: &str) -> Vec<String> {
    let names = names_of_the_crate(&text.replace("crate::", "own::").replace("peregrine::", "crate::"));
    let hidden = hidden_modules();
    names.into_iter().filter(|name| hidden.contains(name)).collect()
}

#[test]
fn bindings_use_the_public_api_alone() {
    let mut files = Vec::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("bindings"), &mut files);
    assert!(files.len() > 5, "only {} files were found", files.len());
    for file in files {
        let found = names_of_hidden_modules(&std::fs::read_to_string(&file).unwrap());
        assert!(found.is_empty(), "{}: {found:?}", file.display());
    }
    assert_eq!(
        names_of_hidden_modules("use peregrine::{Error, model::Config};\nuse crate::model::Model;\nperegrine::gpu::x"),
        ["model"]
    );
}
