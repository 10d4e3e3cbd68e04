//! Models by name, from a hub on loopback that fails in every way that a network does. No test contacts the real hub.

#![cfg(feature = "hub")]

mod common;
#[path = "common/hub_server.rs"]
mod hub_server;
mod program;

use common::{no_gpu, shipped};
use hub_server::{COMMIT, Fault, HubServer};
use peregrine::Error;
use peregrine::hub::{Event, Fetched, Format, Hub, HubSettings, ModelName, SHORT_NAMES, Token};
use program::{peregrine, refused, stderr, stdout};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CONFIG: &[u8] = br#"{"model_type": "mamba"}"#;

/// Bytes that differ from place to place.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// A hub with the repository user/model, and an empty cache.
struct Case {
    server: HubServer,
    cache: TempDir,
    weights: Vec<u8>,
}

impl Case {
    fn new() -> Self {
        let (server, weights) = (HubServer::start(), bytes(300_000));
        let files: [(&str, &[u8]); 4] = [
            ("README.md", b"text"),
            ("config.json", CONFIG),
            ("model.safetensors", &weights),
            ("tokenizer.json", b"{}"),
        ];
        server.repo("user/model", &files);
        Case { server, cache: tempfile::tempdir().unwrap(), weights }
    }

    fn settings(&self) -> HubSettings {
        HubSettings {
            endpoint: self.server.endpoint.clone(),
            cache: self.cache.path().to_owned(),
            token: None,
            offline: false,
            timeout: Duration::from_millis(500),
            tries: 3,
            pause: Duration::from_millis(1),
            certificates: None,
        }
    }

    fn fetch_with(&self, settings: HubSettings, name: &str) -> (peregrine::Result<Fetched>, Vec<String>) {
        let mut notes = vec![];
        let hub = Hub::new(settings).unwrap();
        let fetched = hub.fetch(&ModelName::parse(name).unwrap(), &|_| Ok(()), &mut |event| {
            if let Event::Note(text) = event {
                notes.push(text);
            }
        });
        (fetched, notes)
    }

    fn fetch(&self, name: &str) -> (peregrine::Result<Fetched>, Vec<String>) {
        self.fetch_with(self.settings(), name)
    }

    /// Fetches user/model, which must succeed, and checks its weights.
    fn fetch_model(&self) -> Vec<String> {
        let (fetched, notes) = self.fetch("user/model");
        let path = fetched.unwrap().path;
        assert!(fs::read(path.join("model.safetensors")).unwrap() == self.weights);
        notes
    }

    /// The error of a fetch, which must contain all of `said`.
    fn refuse(&self, settings: HubSettings, name: &str, said: &[&str]) -> Error {
        let error = self.fetch_with(settings, name).0.expect_err(name);
        let text = error.to_string();
        for word in said {
            assert!(text.contains(word), "{name}: {word:?} is missing in: {text}");
        }
        error
    }

    fn repo_dir(&self) -> PathBuf {
        self.cache.path().join("models--user--model")
    }

    fn snapshot(&self) -> PathBuf {
        self.repo_dir().join("snapshots").join(COMMIT)
    }

    /// The unfinished download, if there is one.
    fn unfinished(&self) -> Option<PathBuf> {
        let mut paths = fs::read_dir(self.repo_dir().join("blobs")).ok()?.flatten().map(|entry| entry.path());
        paths.find(|path| path.extension().is_some_and(|ending| ending == "incomplete"))
    }

    /// Its bytes.
    fn unfinished_bytes(&self) -> Option<u64> {
        Some(fs::metadata(self.unfinished()?).unwrap().len())
    }

    /// The first bytes asked for in requests of a large file.
    fn ranges(&self) -> Vec<Option<u64>> {
        self.server.requests().into_iter().filter(|request| request.at_store).map(|request| request.from).collect()
    }

    fn program(&self) -> Command {
        let mut command = peregrine();
        for name in ["HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        command.env("HF_ENDPOINT", &self.server.endpoint).env("HF_HUB_CACHE", self.cache.path());
        command.env("HF_TOKEN_PATH", self.cache.path().join("no-token"));
        command
    }
}

#[test]
fn a_model_has_the_layout_of_huggingface_hub_and_is_fetched_once() {
    let case = Case::new();
    let fetched = case.fetch("user/model").0.unwrap();
    assert_eq!(
        fetched,
        Fetched { path: case.snapshot(), repo: "user/model".into(), commit: COMMIT.into(), downloaded: true }
    );
    assert_eq!(fs::read_to_string(case.repo_dir().join("refs/main")).unwrap(), COMMIT);
    let mut names: Vec<_> =
        fs::read_dir(&fetched.path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    assert!(fs::read(fetched.path.join("model.safetensors")).unwrap() == case.weights);
    let blobs = fs::read_dir(case.repo_dir().join("blobs")).unwrap().count();
    assert_eq!(blobs, 3);
    #[cfg(unix)]
    for name in names {
        let target = fs::read_link(fetched.path.join(&name)).unwrap();
        assert!(target.starts_with("../../blobs"), "{name}: {}", target.display());
    }
    // The list; two requests for each file.
    assert_eq!(case.server.requests().iter().filter(|request| request.path.contains("/api/models/")).count(), 1);
    // A branch takes a request for its commit; a commit and offline take none.
    let again = case.fetch("user/model").0.unwrap();
    assert_eq!((again.downloaded, case.server.requests().len()), (false, 1));
    assert_eq!(case.fetch(&format!("user/model@{COMMIT}")).0.unwrap().path, case.snapshot());
    let offline = HubSettings { offline: true, ..case.settings() };
    assert_eq!(case.fetch_with(offline, "user/model").0.unwrap().path, case.snapshot());
    assert_eq!(case.server.requests().len(), 0);
}

#[test]
fn a_cut_connection_is_continued_where_it_ended() {
    let case = Case::new();
    case.server.fail("/store/", 2, Fault::Cut(100_000));
    let notes = case.fetch_model();
    assert_eq!(case.ranges(), [None, Some(100_000), Some(200_000)]);
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[0].contains("model.safetensors of user/model") && notes[0].contains("cut after 100000 of 300000 bytes")
    );
}

#[test]
fn without_progress_it_gives_up_and_the_next_run_continues() {
    let case = Case::new();
    case.server.fail("/store/", 1, Fault::Cut(50_000));
    case.server.fail("/store/", 2, Fault::Cut(0));
    let error =
        case.refuse(case.settings(), "user/model", &["cut after 50000 of 300000", "run the command again to continue"]);
    assert!(matches!(error, Error::HubUnreachable { .. }));
    assert_eq!(case.unfinished_bytes(), Some(50_000));
    // Nothing says that the model is there.
    assert!(!case.repo_dir().join("refs/main").exists() && !case.snapshot().join("model.safetensors").exists());
    case.ranges();
    case.fetch_model();
    assert_eq!((case.ranges(), case.unfinished()), (vec![Some(50_000)], None));
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let case = Case::new();
    case.server.fail("/store/", 1, Fault::Cut(100_000));
    case.server.fail("/store/", 1, Fault::NoRanges);
    case.fetch_model();
    assert_eq!(case.ranges(), [None, Some(100_000)]);
}

#[test]
fn a_body_that_stalls_is_asked_for_again() {
    let case = Case::new();
    case.server.fail("/store/", 1, Fault::Stall(100_000, Duration::from_secs(4)));
    let started = Instant::now();
    let notes = case.fetch_model();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(notes[0].contains("no more bytes came after 100000"), "{notes:?}");
    assert_eq!(case.ranges(), [None, Some(100_000)]);
}

#[test]
fn a_file_with_a_wrong_hash_is_refused_and_deleted() {
    let case = Case::new();
    case.server.fail("/store/", 1, Fault::Damaged);
    let error = case.refuse(
        case.settings(),
        "user/model",
        &["model.safetensors of user/model", "SHA-256", "run the command again"],
    );
    assert!(matches!(error, Error::DamagedDownload { .. }));
    assert_eq!(case.unfinished(), None);
    assert!(!case.snapshot().join("model.safetensors").exists());
    case.fetch_model();
    // A beginning that an earlier process left damaged is noticed, and all of it fetched.
    let case = Case::new();
    case.server.fail("/store/", 3, Fault::Cut(20_000));
    case.server.fail("/store/", 2, Fault::Cut(0));
    case.fetch("user/model").0.unwrap_err();
    let partial = case.unfinished().unwrap();
    fs::write(&partial, [0; 1000]).unwrap();
    case.ranges();
    let notes = case.fetch_model();
    assert!(notes.iter().any(|note| note.contains("is damaged: fetching all of it")), "{notes:?}");
    assert_eq!(case.ranges(), [Some(1000), None]);
}

#[test]
fn refusals_say_what_where_and_what_to_do() {
    let case = Case::new();
    let files: [(&str, &[u8]); 2] = [("config.json", CONFIG), ("model.safetensors", b"x")];
    case.server.private_repo("user/private", &files, "hf_right", false);
    case.server.private_repo("user/gated", &files, "hf_right", true);
    let with = |token: &str| HubSettings { token: Some(Token::new(token, "HF_TOKEN").unwrap()), ..case.settings() };
    let endpoint = case.server.endpoint.as_str();
    let page = format!("{endpoint}/user/gated");
    let errors = [
        case.refuse(
            case.settings(),
            "user/none",
            &["user/none", endpoint, "no public repository", "check the name", "HF_TOKEN"],
        ),
        case.refuse(with("hf_right"), "user/none", &["has no repository user/none", "check the name"]),
        case.refuse(case.settings(), "user/private", &["user/private", "set HF_TOKEN"]),
        case.refuse(
            case.settings(),
            "user/gated",
            &["user/gated", "it is gated", "accept its terms on", &page, "HF_TOKEN"],
        ),
        case.refuse(with("hf_wrong"), "user/gated", &["gated", "token from HF_TOKEN has no access", &page]),
        case.refuse(case.settings(), "user/model@v9", &["has no revision v9 of user/model", "branch, tag or commit"]),
        case.refuse(case.settings(), "user/model:x.gguf", &["user/model@main", "no file x.gguf", "model.safetensors"]),
        case.refuse(case.settings(), "user/model:Q4_K_M", &["user/model", "no GGUF files", "--weights"]),
    ];
    for error in errors {
        let is_refusal =
            matches!(error, Error::NoHubAccess { .. } | Error::NotOnHub { .. } | Error::NoSuchModel { .. });
        assert!(is_refusal && !error.to_string().contains("hf_"), "{error:?}");
    }
    assert!(case.fetch_with(with("hf_right"), "user/gated").0.is_ok());
    let requests = case.server.requests();
    let (store, hub): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.at_store);
    assert!(hub.iter().any(|request| request.token.as_deref() == Some("hf_right")));
    // The token never goes to another server.
    assert!(!store.is_empty() && store.iter().all(|request| request.token.is_none()), "{store:?}");
}

#[test]
fn a_server_in_trouble_is_asked_again_and_then_named() {
    let case = Case::new();
    case.server.fail("/api/models/", 2, Fault::Status(503, ""));
    case.fetch_model();
    let case = Case::new();
    case.server.fail("/api/models/", 3, Fault::Status(500, ""));
    case.refuse(
        case.settings(),
        "user/model",
        &[&case.server.endpoint, "user/model", "status 500", "run the command again"],
    );
    let case = Case::new();
    case.server.fail("/api/models/", 9, Fault::Status(429, "Retry-After: 9999\r\n"));
    case.refuse(case.settings(), "user/model", &["too many requests", "wait some minutes", "HF_TOKEN"]);
    // It asked for more time than anyone waits.
    assert_eq!(case.server.requests().len(), 1);
    let case = Case::new();
    case.server.fail(
        "/resolve/",
        9,
        Fault::Header("location", format!("{}/user/model/resolve/{COMMIT}/config.json", case.server.endpoint)),
    );
    case.refuse(case.settings(), "user/model", &["more than 8 redirects"]);
    let case = Case::new();
    case.server.fail("/resolve/", 1, Fault::Status(404, "X-Error-Code: EntryNotFound\r\n"));
    case.refuse(
        case.settings(),
        "user/model",
        &["has no config.json of user/model at revision 0123", "check the file's name"],
    );
}

#[test]
fn a_link_that_expired_is_made_anew() {
    let case = Case::new();
    case.server.fail("/store/", 1, Fault::Status(403, ""));
    let notes = case.fetch_model();
    assert!(notes[0].contains("status 403"), "{notes:?}");
}

#[test]
fn a_changed_file_is_not_mixed_with_the_old_one() {
    let case = Case::new();
    case.server.fail("/resolve/", 1, Fault::Header("x-repo-commit", "f".repeat(40)));
    case.refuse(
        case.settings(),
        "user/model",
        &["config.json of user/model", "another commit", "run the command again"],
    );
    let case = Case::new();
    case.server.fail("/store/", 9, Fault::Header("content-length", "7".to_owned()));
    case.refuse(case.settings(), "user/model", &["a file of 7 bytes, announced were 300000", "changed meanwhile"]);
}

#[test]
fn names_that_lead_out_of_the_cache_are_refused() {
    let case = Case::new();
    case.server.repo("user/evil", &[("../../../evil.gguf", b"x")]);
    case.refuse(case.settings(), "user/evil", &["../../../evil.gguf", "out of the cache"]);
    let index = br#"{"weight_map": {"a": "../x.safetensors"}}"#;
    case.server.repo("user/index", &[("config.json", CONFIG), ("model.safetensors.index.json", index)]);
    case.refuse(case.settings(), "user/index", &["../x.safetensors", "do not trust"]);
    case.server.fail("/resolve-cache/", 1, Fault::Header("etag", "\"../../x\"".to_owned()));
    case.refuse(case.settings(), "user/model", &["no usable ETag"]);
}

#[test]
fn a_full_disk_is_named_before_and_during_the_download() {
    let case = Case::new();
    let weights = format!("/resolve/{COMMIT}/model.safetensors");
    case.server.fail(&weights, 9, Fault::Header("x-linked-size", (1u64 << 60).to_string()));
    let dir = case.repo_dir();
    let said = ["no space for model.safetensors of user/model", dir.to_str().unwrap(), "GB are free", "HF_HUB_CACHE"];
    assert!(matches!(case.refuse(case.settings(), "user/model", &said[..2]), Error::NoSpace { .. }));
    case.refuse(case.settings(), "user/model", &said);
    // A device that is always full stands in for the disk.
    #[cfg(target_os = "linux")]
    {
        let case = Case::new();
        case.server.fail("/store/", 1, Fault::Cut(10));
        case.server.fail("/store/", 9, Fault::Cut(0));
        case.fetch("user/model").0.unwrap_err();
        let partial = case.unfinished().unwrap();
        fs::remove_file(&partial).unwrap();
        std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
        case.server.requests();
        let case = Case { server: HubServer::start(), ..case };
        case.server.repo(
            "user/model",
            &[("config.json", CONFIG), ("model.safetensors", &case.weights), ("tokenizer.json", b"{}")],
        );
        let error = case.refuse(case.settings(), "user/model", &["no space for model.safetensors", "free some space"]);
        assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    }
}

#[test]
fn without_a_network_the_cache_is_used_or_the_error_says_so() {
    let case = Case::new();
    let nowhere = HubSettings { endpoint: "http://127.0.0.1:1".to_owned(), ..case.settings() };
    let said = ["user/model", "http://127.0.0.1:1", "refused", "check the network", "HF_ENDPOINT"];
    assert!(matches!(case.refuse(nowhere.clone(), "user/model", &said), Error::HubUnreachable { .. }));
    let offline = HubSettings { offline: true, ..case.settings() };
    let said = ["revision main of user/model", case.cache.path().to_str().unwrap(), "--offline", "HF_HUB_OFFLINE"];
    assert!(matches!(case.refuse(offline.clone(), "user/model", &said), Error::NotInCache { .. }));
    case.fetch_model();
    let (fetched, notes) = case.fetch_with(nowhere, "user/model");
    assert_eq!(fetched.unwrap().path, case.snapshot());
    assert!(notes[0].contains("refused") && notes[0].contains("Using the copy in the cache"), "{notes:?}");
    case.refuse(offline.clone(), "user/model@v2", &["revision v2"]);
    // A file that is gone is missed by name.
    fs::remove_file(case.snapshot().join("model.safetensors")).unwrap();
    case.refuse(offline, "user/model", &["user/model", "not in the cache"]);
}

#[test]
fn two_that_fetch_the_same_model_share_one_download() {
    let case = Case::new();
    case.server.fail("/store/", 1, Fault::Slow(Duration::from_millis(2)));
    let fetched = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| case.fetch("user/model"))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let mut notes = vec![];
    for (fetched, said) in fetched {
        assert!(fs::read(fetched.unwrap().path.join("model.safetensors")).unwrap() == case.weights);
        notes.extend(said);
    }
    assert_eq!(case.ranges(), [None]);
    assert!(notes.iter().any(|note| note.contains("waiting for another process")), "{notes:?}");
}

#[test]
fn shards_are_those_that_the_index_names() {
    let case = Case::new();
    let index = br#"{"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors", "c": "part-1.safetensors"}}"#;
    let files: [(&str, &[u8]); 5] = [
        ("config.json", CONFIG),
        ("model.safetensors.index.json", index),
        ("part-1.safetensors", b"one"),
        ("part-2.safetensors", b"two"),
        ("other.safetensors", b"no"),
    ];
    case.server.repo("user/shards", &files);
    let path = case.fetch("user/shards").0.unwrap().path;
    assert_eq!(fs::read(path.join("part-2.safetensors")).unwrap(), b"two");
    assert!(path.join("part-1.safetensors").exists() && !path.join("other.safetensors").exists());
    let offline = HubSettings { offline: true, ..case.settings() };
    assert!(case.fetch_with(offline.clone(), "user/shards").0.is_ok());
    fs::remove_file(path.join("part-2.safetensors")).unwrap();
    case.refuse(offline, "user/shards", &["part-2.safetensors of user/shards is not in the cache"]);
}

#[test]
fn a_quantization_picks_its_file_alone() {
    let case = Case::new();
    let files: [(&str, &[u8]); 3] = [("m-Q4_K_M.gguf", b"four"), ("m-Q8_0.gguf", b"eight"), ("README.md", b"")];
    case.server.repo("user/gguf", &files);
    let path = case.fetch("user/gguf:q8_0").0.unwrap().path;
    assert_eq!(
        (path.file_name().unwrap().to_str().unwrap(), fs::read(&path).unwrap()),
        ("m-Q8_0.gguf", b"eight".to_vec())
    );
    assert!(!path.with_file_name("m-Q4_K_M.gguf").exists());
    let path = case.fetch("user/gguf").0.unwrap().path;
    assert_eq!(fs::read(path).unwrap(), b"four");
    let listed = Hub::new(case.settings()).unwrap().cached_models().unwrap();
    let listed: Vec<_> = listed.iter().map(|model| (model.name.as_str(), &model.format, model.bytes)).collect();
    let (four, eight) = (Format::Gguf(Some("Q4_K_M")), Format::Gguf(Some("Q8_0")));
    assert_eq!(listed, [("user/gguf:m-Q4_K_M.gguf", &four, 4), ("user/gguf:m-Q8_0.gguf", &eight, 5)]);
}

#[test]
fn a_model_can_be_refused_before_its_weights_are_fetched() {
    let case = Case::new();
    let hub = Hub::new(case.settings()).unwrap();
    let no = |dir: &Path| {
        assert!(dir.join("config.json").exists() && dir.join("tokenizer.json").exists());
        Err(Error::NoTokens)
    };
    assert!(matches!(hub.fetch(&ModelName::parse("user/model").unwrap(), &no, &mut |_| {}), Err(Error::NoTokens)));
    assert_eq!(case.ranges(), []);
}

#[test]
fn every_published_shape_has_a_short_name() {
    for shape in peregrine::model::SHAPES {
        assert!(SHORT_NAMES.iter().any(|short| short.name == shape), "{shape}");
    }
    for short in SHORT_NAMES {
        assert_eq!(ModelName::parse(short.name).unwrap().repo, short.repo);
    }
}

/// A hub with tiny-chat as user/tiny.
fn with_tiny_chat() -> Case {
    let case = Case::new();
    let names = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "README.md",
    ];
    let files = names.map(|name| (name, fs::read(shipped("tiny-chat").join(name)).unwrap()));
    case.server.repo("user/tiny", &files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice())));
    case
}

#[test]
fn the_program_runs_a_model_by_its_name_and_offline_without_a_request() {
    if no_gpu("the_program_runs_a_model_by_its_name_and_offline_without_a_request") {
        return;
    }
    let case = with_tiny_chat();
    case.server.fail("/store/", 1, Fault::Cut(1_000_000));
    let ask = ["-cnv", "-p", "What is 12 plus 2?", "--temp", "0"];
    let output = case.program().args(["run", "-hf", "user/tiny"]).args(ask).output().unwrap();
    assert_eq!(stdout(&output), "12 plus 2 is 14.\n");
    let said = stderr(&output);
    for word in [
        "fetching 5.7 MB of user/tiny",
        "cut after 1000000",
        "trying again",
        &format!("user/tiny at revision {COMMIT}"),
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(case.server.requests().len() > 5);
    let output = case.program().args(["run", "--hf-repo", "user/tiny", "--offline"]).args(ask).output().unwrap();
    assert_eq!(stdout(&output), "12 plus 2 is 14.\n");
    let mut command = case.program();
    command.env("HF_HUB_OFFLINE", "1").env("PEREGRINE_MODEL", "/no/such").args(["run", "-hf", "user/tiny"]).args(ask);
    assert_eq!(stdout(&command.output().unwrap()), "12 plus 2 is 14.\n");
    assert_eq!(case.server.requests().len(), 0);
    let listed = case.program().args(["models", "-o", "json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_str(&stdout(&listed)).unwrap();
    let model = &listed["models"][0];
    assert_eq!(model["name"], "user/tiny");
    assert_eq!(model["format"], "safetensors");
    assert_eq!(model["revision"], COMMIT);
    assert_eq!(model["bytes"], 5_609_208);
    assert_eq!(model["runs"], true, "{model}");
    let listed = stdout(&case.program().arg("models").output().unwrap());
    assert!(listed.contains("user/tiny  0123456789ab") && listed.contains("runs: needs"), "{listed}");
    assert!(
        listed.contains("mamba-130m ")
            && listed.contains(
                "  state-spaces/mamba-130m-hf
"
            ),
        "{listed}"
    );
}

#[test]
fn the_program_refuses_with_the_exit_code_of_the_cause() {
    let case = with_tiny_chat();
    let llama = br#"{"model_type": "llama"}"#;
    case.server.repo("user/llama", &[("config.json", llama), ("model.safetensors", b"large")]);
    let run = |arguments: &[&str]| case.program().args(arguments).output().unwrap();
    refused(&run(&["inspect", "-hf", "user/llama"]), 3, &["llama", "is not supported"]);
    // Not before its weights.
    assert!(case.server.requests().iter().all(|request| !request.path.contains("model.safetensors")));
    refused(&run(&["inspect", "-hf", "user/none"]), 3, &["no public repository"]);
    refused(&run(&["inspect", "-hf", "user/tiny", "--offline"]), 3, &["not in the cache"]);
    refused(&run(&["classify", "-hf", "user/none", "-"]), 3, &["no public repository"]);
    refused(&run(&["bench", "-hf", "user/none"]), 3, &["no public repository"]);
    refused(&run(&["inspect", "-hf", "tiny"]), 2, &["\"tiny\" is not a model's name", "user/repo:Q4_K_M"]);
    refused(&run(&["inspect", "-hf", "user/tiny", "-m", "x"]), 2, &["-m and -hf"]);
    refused(&run(&["inspect", "-m", "x", "--hf-revision", "v1"]), 2, &["-hf user/repo"]);
    refused(&run(&["inspect", "-hf", "user/tiny", "-hft", "hf_x"]), 2, &["-hft", "set HF_TOKEN"]);
    case.server.requests();
    // A short name is one where no such path exists, and stands for its repository.
    refused(
        &run(&["inspect", "-m", "mamba-130m", "--hf-revision", "v1"]),
        3,
        &["state-spaces/mamba-130m-hf", "no public"],
    );
    assert!(case.server.requests()[0].path.starts_with("/api/models/state-spaces/mamba-130m-hf/revision/v1"));
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("mamba-130m")).unwrap();
    let output = case.program().current_dir(dir.path()).args(["inspect", "-m", "mamba-130m"]).output().unwrap();
    refused(&output, 3, &["mamba-130m has no config.json"]);
    let unreachable =
        case.program().env("HF_ENDPOINT", "http://127.0.0.1:1").args(["inspect", "-hf", "user/tiny"]).output();
    refused(&unreachable.unwrap(), 1, &["refused", "check the network"]);
    assert_eq!(case.server.requests().len(), 0);
}

#[test]
fn a_kill_at_any_moment_leaves_a_download_that_continues() {
    let case = with_tiny_chat();
    case.server.fail("/store/", 5, Fault::Slow(Duration::from_micros(200)));
    let start =
        || case.program().args(["inspect", "-hf", "user/tiny"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let blobs = case.cache.path().join("models--user--tiny/blobs");
    let unfinished = || {
        let entries = fs::read_dir(&blobs).into_iter().flatten().flatten();
        let sizes = entries.filter(|e| e.file_name().to_string_lossy().ends_with(".incomplete"));
        sizes.filter_map(|e| Some(e.metadata().ok()?.len())).max().unwrap_or(0)
    };
    let mut before = 0;
    for _ in 0..3 {
        let mut child = start();
        let started = Instant::now();
        while unfinished() <= before + 100_000 && started.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(unfinished() > before, "no progress");
        before = unfinished();
        assert!(!case.cache.path().join("models--user--tiny/refs/main").exists());
    }
    let listed = stdout(&case.program().arg("models").output().unwrap());
    assert!(listed.contains("unfinished") && listed.contains("run it again"), "{listed}");
    case.server.requests();
    let output = case.program().args(["inspect", "-hf", "user/tiny", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(report["parameters"].as_u64().unwrap() > 0);
    assert_eq!(case.ranges(), [Some(before)]);
}
