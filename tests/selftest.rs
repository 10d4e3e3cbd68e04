//! The self-test and the doctor: a planted fault is found in every family, reports agree with each other in all their forms, and those in the
//! repository are what its pages say.

mod common;
mod program;

use common::no_gpu;
use peregrine::gpu::{AdapterChoice, AdapterInfo, adapters};
use peregrine::runtime::Checkpoint;
use peregrine::selftest::{self, Depth, Event, Options, Outcome, Report, Section};
use program::{peregrine, refused, run, stdout};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The adapter that the tests run on.
fn adapter() -> AdapterInfo {
    let gpu = common::gpu();
    adapters().into_iter().find(|listed| listed.to_string() == gpu.info().to_string()).expect("it was opened")
}

fn report(options: &Options) -> Report {
    selftest::run(&AdapterChoice::Best, &adapter(), options, &Checkpoint::embedded, &mut |_: Event<'_>| {})
}

/// One case of each family, which compiles quickly.
const PLANTED: [(&str, &str); 17] = [
    ("copy", "copy 3"),
    ("race", "race 64"),
    ("teams", "teams 8 workgroups of 32"),
    ("special_values", "special_values"),
    ("functions", "functions exp"),
    ("stream", "stream 3"),
    ("rms_norm", "rms_norm 1x1 "),
    ("layer_norm", "layer_norm"),
    ("dbc_norm", "dbc_norm"),
    ("conv", "conv 1x"),
    ("embed", "embed f32"),
    ("fill", "fill f32 1x1"),
    ("merge", "merge"),
    ("patches", "patches"),
    ("matmul", "matmul direct f32 store 1x1x1"),
    ("row_tops", "row_tops"),
    ("tops", "tops"),
];

#[test]
fn a_planted_fault_is_found_in_every_family() {
    if no_gpu("a_planted_fault_is_found_in_every_family") {
        return;
    }
    for (kernel, only) in PLANTED {
        let options = Options { only: Some(only.to_owned()), ..Options::of(Depth::Quick) };
        let plain = report(&options);
        assert!(plain.passed(), "{}: {:?}", plain.verdict(), plain.faults());
        let planted = report(&Options { plant: Some(kernel.to_owned()), ..options });
        let faults = planted.faults();
        assert!(!planted.passed() && faults.iter().any(|(name, _)| name.contains(kernel)), "{kernel}: {faults:?}");
        assert!(planted.verdict().starts_with("FAIL"), "{}", planted.verdict());
    }
}

#[test]
fn the_device_keeps_its_promises_and_tells_what_it_is_like() {
    if no_gpu("the_device_keeps_its_promises_and_tells_what_it_is_like") {
        return;
    }
    for (only, found) in [
        ("round trips", "bytes"),
        ("functions", "softplus"),
        ("special values", "a denormal times 1"),
        ("subgroups", "a workgroup of 64"),
        ("matrix units", "exact"),
    ] {
        let report = report(&Options { only: Some(only.to_owned()), ..Options::of(Depth::Quick) });
        assert!(report.passed(), "{}: {:?}", report.verdict(), report.faults());
        let group = report.groups.iter().find(|group| group.name == only).expect("it ran");
        assert_eq!(group.section, Section::Device);
        let names: Vec<&str> = group.checks.iter().map(|check| check.name.as_str()).collect();
        assert!(names.iter().any(|name| name.contains(found)), "{only}: {names:?}");
    }
    // Errors of functions are told with what is allowed.
    let report = report(&Options { only: Some("functions".to_owned()), ..Options::of(Depth::Quick) });
    let functions = report.groups.iter().find(|group| group.name == "functions").expect("it ran");
    let value = functions.checks[0].value.as_ref().expect("a measured error");
    assert!(value.contains("ulp at") && value.contains("are allowed"), "{value}");
}

#[test]
fn a_model_is_checked_against_the_reference_and_itself() {
    if no_gpu("a_model_is_checked_against_the_reference_and_itself") {
        return;
    }
    for only in ["a batch gives", "a restored state", "golden text"] {
        let report = report(&Options { only: Some(only.to_owned()), ..Options::of(Depth::Normal) });
        assert!(report.passed() && report.groups.len() == 1, "{only}: {:?}", report.faults());
        assert_eq!(report.groups[0].section, Section::Model);
    }
}

#[test]
fn every_form_of_a_report_says_the_same() {
    if no_gpu("every_form_of_a_report_says_the_same") {
        return;
    }
    let options = Options { only: Some("scan".to_owned()), ..Options::of(Depth::Quick) };
    let good = report(&options);
    assert!(good.passed(), "{:?}", good.faults());
    let json = good.json(false);
    let groups = json["groups"].as_array().unwrap();
    let names: Vec<&str> = groups.iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"scan") && names.contains(&"scan_4_lanes"), "every form is reported: {json}");
    assert!(json["passed"] == true && json["limits"].as_array().unwrap().len() == 6, "{json}");
    assert!(json["falcon_mamba_7b"].as_array().unwrap().len() == 11 && json["features"]["subgroup_max"].is_u64());
    for group in &good.groups {
        assert!(group.checks.iter().all(|check| check.outcome == Outcome::Passed), "{group:?}");
    }
    assert!(good.markdown().contains("| scan | kernel |") && good.markdown().ends_with(&(good.verdict() + "\n")));
    let (tests, xml) = (good.checks(), selftest::junit(std::slice::from_ref(&good)));
    assert_eq!(xml.matches("<testcase ").count(), tests);
    assert!(!xml.contains("<failure"), "{xml}");
    let bad = report(&Options { plant: Some("scan".to_owned()), ..options });
    let failures = selftest::junit(std::slice::from_ref(&bad)).matches("<failure").count();
    assert_eq!(failures, bad.faults().len());
    assert!(failures > 0 && bad.markdown().contains("\nFAIL scan "), "{}", bad.markdown());
}

#[test]
fn a_report_compares_itself_with_an_older_one() {
    if no_gpu("a_report_compares_itself_with_an_older_one") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("old.json");
    let quick = ["selftest", "--quick", "--only", "norm"];
    std::fs::write(&file, stdout(&run(&[&quick[..], &["--json"]].concat()))).unwrap();
    let path = file.to_str().unwrap();
    let same = stdout(&run(&[&quick[..], &["--compare", path]].concat()));
    assert!(!same.contains("worse:") && !same.contains("changed:"), "{same}");
    let planted = run(&[&quick[..], &["--compare", path, "--plant", "rms_norm"]].concat());
    let said = String::from_utf8(planted.stdout).unwrap();
    assert!(planted.status.code() == Some(6) && said.contains("worse: rms_norm: was pass, is FAIL"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert!(report["schema"] == selftest::SCHEMA && report["date"].is_string() && report["os"].is_string(), "{report}");
    // Nothing of this machine or its user.
    for secret in ["HOME", "HOSTNAME", "USER"].iter().filter_map(|name| std::env::var(name).ok()) {
        assert!(secret.len() < 5 || !text.contains(&secret), "{secret} is in {text}");
    }
    let redacted = stdout(&run(&[&quick[..], &["--json", "--redact"]].concat()));
    let redacted: Value = serde_json::from_str(&redacted).unwrap();
    assert!(redacted["date"].is_null() && redacted["adapters"][0]["ids"].is_null(), "{redacted}");

    std::fs::write(&file, "{}").unwrap();
    refused(&run(&["selftest", "--compare", path]), 2, &["old.json", "no report"]);
    std::fs::write(&file, r#"{ "schema": 99, "adapters": [] }"#).unwrap();
    refused(&run(&["selftest", "--compare", path]), 2, &["schema 99"]);
    refused(&run(&["selftest", "--summary", "/nowhere.json"]), 1, &["/nowhere.json"]);
}

#[test]
fn checks_are_listed_without_running_them() {
    if no_gpu("checks_are_listed_without_running_them") {
        return;
    }
    let quick = stdout(&run(&["selftest", "--list", "--quick"]));
    for line in
        ["device: round trips", "device: race 300 workgroups of 64", "kernel: rms_norm 1x1", "speed: product with"]
    {
        assert!(quick.lines().any(|listed| listed.starts_with(line)), "{line}: {quick}");
    }
    let all = stdout(&run(&["selftest", "--list", "--full"]));
    let counts = [&quick, &all].map(|list| list.lines().count());
    assert!(counts[0] > 100 && counts[1] > 2 * counts[0] && all.contains("model: a batch gives"), "{counts:?}");
}

#[test]
fn doctor_ends_with_0_exactly_if_it_finds_no_problem() {
    let levels = |command: &mut Command| {
        let output = command.args(["doctor", "--json"]).output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = json["findings"].as_array().unwrap().clone();
        let problems = findings.iter().any(|finding| finding["level"] == "problem");
        assert_eq!(output.status.code(), Some(i32::from(problems)), "{json:#}");
        json.to_string()
    };
    let dir = tempfile::tempdir().unwrap();
    levels(peregrine().env("PEREGRINE_CACHE", dir.path()));
    std::fs::write(dir.path().join("file"), "").unwrap();
    let refused = levels(peregrine().env("PEREGRINE_CACHE", dir.path().join("file")));
    assert!(refused.contains("cannot be written to"), "{refused}");
    let hidden = levels(peregrine().env("VK_DRIVER_FILES", "/nonexistent.json").env("WGPU_BACKEND", "vulkan"));
    assert!(
        hidden.contains("no adapter can be used") && hidden.contains("VK_DRIVER_FILES=/nonexistent.json"),
        "{hidden}"
    );
    let text = stdout(peregrine().arg("--help").output().as_ref().unwrap());
    assert!(text.contains("doctor"), "{text}");
}

/// The reports in the repository, by the names of their files.
fn reports() -> Vec<Value> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files.iter().map(|file| serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()).collect()
}

#[test]
fn the_readme_and_the_page_of_reports_say_what_the_reports_do() {
    let reports = reports();
    assert!(!reports.is_empty());
    assert!(reports.iter().all(|report| report["schema"] == selftest::SCHEMA), "a report of another schema");
    let table = selftest::table(&reports);
    assert!(include_str!("../README.md").contains(&table), "the README needs this table:\n{table}");
    assert_eq!(include_str!("../reports/README.md"), selftest::page(&reports), "run `peregrine selftest --summary`");
}
