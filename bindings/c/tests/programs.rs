//! The C programs: they compile as C and as C++ without a warning, and run without a leak or a wrong access.
//! On Linux: elsewhere the library has another name, and the sanitizers find no leaks.
#![cfg(target_os = "linux")]

mod compiler;

use compiler::Language::{C, Cpp};
use compiler::{Watch, Workshop, binding, command, fixture, model, no_gpu, root, run, source, stdout};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Compiles a test program, runs it under the sanitizers, and gives what it prints.
fn watched(name: &str, arguments: &[&str]) -> String {
    let workshop = Workshop::new();
    stdout(run(&workshop.compile(&source(name), C, Watch::Memory), arguments))
}

#[test]
fn every_program_is_c11_and_cpp17() {
    let workshop = Workshop::new();
    let tests = std::fs::read_dir(binding().join("tests/c")).unwrap().map(|file| file.unwrap().path());
    let programs: Vec<PathBuf> = tests.filter(|path| path.extension().is_some_and(|e| e == "c")).collect();
    assert!(programs.len() > 7, "{programs:?}");
    for program in programs.iter().chain([&root().join("examples/c/chat.c")]) {
        workshop.compile(program, C, Watch::Nothing);
        workshop.compile(program, Cpp, Watch::Nothing);
    }
}

#[test]
fn what_can_be_noticed_is_refused() {
    if no_gpu("what_can_be_noticed_is_refused") {
        return;
    }
    let version = watched("arguments", &[&model("tiny-chat")]);
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains(&format!("\nversion = \"{}\"\n", version.trim().trim_start_matches("peregrine "))));
}

#[test]
fn a_conversation_streams_and_goes_back() {
    if no_gpu("a_conversation_streams_and_goes_back") {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    watched("conversation", &[&model("tiny-chat"), &cache.path().join("kernels").display().to_string()]);
}

#[test]
fn a_cancel_ends_an_answer_and_a_busy_session_says_so() {
    if no_gpu("a_cancel_ends_an_answer_and_a_busy_session_says_so") {
        return;
    }
    watched("cancel", &[&model("tiny-chat")]);
}

#[test]
fn two_models_and_several_threads_do_not_disturb_each_other() {
    if no_gpu("two_models_and_several_threads_do_not_disturb_each_other") {
        return;
    }
    watched("threads", &[&fixture("falcon-tiny"), &fixture("mamba-tiny")]);
}

#[test]
fn a_thousand_sessions_leak_nothing() {
    if no_gpu("a_thousand_sessions_leak_nothing") {
        return;
    }
    // The sanitizer keeps what is freed, so resident memory says nothing under it.
    let workshop = Workshop::new();
    stdout(run(&workshop.compile(&source("sessions"), C, Watch::Nothing), &[&fixture("falcon-tiny")]));
}

#[test]
fn a_leaked_snapshot_is_noticed() {
    if no_gpu("a_leaked_snapshot_is_noticed") {
        return;
    }
    let workshop = Workshop::new();
    let output = run(&workshop.compile(&source("states"), C, Watch::Memory), &["leak", &fixture("falcon-tiny")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("LeakSanitizer: detected memory leaks"), "{said}");
}

#[test]
fn a_lost_device_is_recovered() {
    if no_gpu("a_lost_device_is_recovered") {
        return;
    }
    let workshop = Workshop::new();
    let program = workshop.compile(&source("lost"), C, Watch::Memory);
    let lost = stdout(command(&program, &[&model("tiny-chat")]).env("PEREGRINE_LOSE_AFTER", "60").output().unwrap());
    let options = ["run", "-m", &model("tiny-chat"), "-cnv", "-p", "Tell me a story about a fox.", "--temp", "0"];
    assert_eq!(lost, stdout(peregrine(&options)).trim_end_matches('\n'));
}

/// Runs the program `peregrine`, which cargo builds with the tests of the whole workspace.
fn peregrine(arguments: &[&str]) -> std::process::Output {
    let program = compiler::built().parent().unwrap().join("peregrine");
    let output = Command::new(&program).args(arguments).env_remove("PEREGRINE_MODEL").stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{}: {error}; run `cargo build`", program.display()))
}

#[test]
fn a_state_goes_to_another_process_and_from_and_to_the_command_line() {
    if no_gpu("a_state_goes_to_another_process_and_from_and_to_the_command_line") {
        return;
    }
    let workshop = Workshop::new();
    let program = workshop.compile(&source("states"), C, Watch::Memory);
    let (model, saved) = (model("tiny-chat"), workshop.file("saved").display().to_string());
    let here = stdout(run(&program, &["save", &model, &saved]));
    assert!(here.len() > 100, "{here}");
    let elsewhere = stdout(run(&program, &["go-on", &model, &saved]));
    assert_eq!(here, elsewhere);

    let chat = |state: &[&str], prompt: &str, most: &str| {
        let greedy = "--temp 0 --top-k 0 --top-p 1 --min-p 0 --seed 0".split(' ').collect::<Vec<_>>();
        let arguments = ["run", "-m", &model, "-cnv", "-p", prompt, "-n", most];
        stdout(peregrine(&[&arguments[..], &greedy, state].concat())).trim_end_matches('\n').to_owned()
    };
    assert_eq!(here, chat(&["--load-state", &saved], "Tell me a story about a bear.", "60"));
    let of_program = workshop.file("of-program").display().to_string();
    chat(&["--save-state", &of_program], "Tell me a story about a fox.", "20");
    assert_eq!(here, stdout(run(&program, &["go-on", &model, &of_program])));
    assert_eq!(std::fs::read(saved).unwrap(), std::fs::read(of_program).unwrap());
}

/// The status and the text that a program prints.
fn outcome(program: &Path, arguments: &[&str]) -> (i32, String) {
    let said = stdout(run(program, arguments));
    let (status, text) = said.split_once(' ').unwrap();
    (status.parse().unwrap(), text.to_owned())
}

#[test]
fn errors_have_the_librarys_text() {
    let workshop = Workshop::new();
    let program = workshop.compile(&source("load"), C, Watch::Memory);
    let dir = tempfile::tempdir().unwrap();
    let write = |folder: &str, file: &str, text: &[u8]| {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        std::fs::write(dir.path().join(folder).join(file), text).unwrap();
        dir.path().join(folder).display().to_string()
    };
    // Valid weights without a tensor, then damaged ones.
    for (folder, weights) in
        [("json", &b"\x02\0\0\0\0\0\0\0{}"[..]), ("nested", b"\x02\0\0\0\0\0\0\0{}"), ("damaged", b"\xff")]
    {
        write(folder, "model.safetensors", weights);
    }
    write("lfs", "model.safetensors", b"version https://git-lfs.github.com/spec/v1\n");
    let nested = "[".repeat(100_000);
    let not_found = peregrine_c::peregrine_status::PEREGRINE_MODEL_NOT_FOUND as i32;
    let unusable = peregrine_c::peregrine_status::PEREGRINE_MODEL_UNUSABLE as i32;
    for (path, status) in [
        ("no/such/model".to_owned(), not_found),
        (write("empty", "README", b""), not_found),
        (write("no-weights", "config.json", b"{}"), not_found),
        (write("damaged", "config.json", b"{}"), unusable),
        (write("json", "config.json", b"{"), unusable),
        (write("nested", "config.json", nested.as_bytes()), unusable),
        (write("lfs", "config.json", b"{\"model_type\": \"mamba\"}"), unusable),
        (model("vim-digits"), unusable),
    ] {
        let expected = peregrine::Checkpoint::open(&path).err().unwrap_or_else(|| panic!("{path} is loaded"));
        assert_eq!(outcome(&program, &[&path]), (status, expected.to_string()), "{path}");
    }
    if no_gpu("errors_have_the_librarys_text of states") {
        return;
    }
    let program = workshop.compile(&source("states"), C, Watch::Memory);
    let state = workshop.file("state");
    let model = fixture("falcon-tiny");
    std::fs::write(&state, "x".repeat(4096)).unwrap();
    let expected = peregrine::Snapshot::from_bytes("the snapshot", &[b'x'; 4096]).unwrap_err().to_string();
    let damaged = peregrine_c::peregrine_status::PEREGRINE_STATE_DAMAGED as i32;
    assert_eq!(outcome(&program, &["refuse", &model, &state.display().to_string()]), (damaged, expected));
}

#[test]
fn logits_equal_the_golden_values() {
    if no_gpu("logits_equal_the_golden_values") {
        return;
    }
    let name = fixture("falcon-tiny");
    let file = std::fs::read(format!("{name}/expected.safetensors")).unwrap();
    let ids: Vec<u32> = words(tensor(&file, "ids.64")).map(u32::from_le_bytes).collect();
    let expected: Vec<f32> = words(tensor(&file, "logits.64")).map(f32::from_le_bytes).collect();
    let expected = &expected[expected.len() / ids.len() * (ids.len() - 1)..];
    let workshop = Workshop::new();
    let program = workshop.compile(&source("logits"), C, Watch::Memory);
    let mut child = command(&program, &[&name]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let prompt: Vec<String> = ids.iter().map(ToString::to_string).collect();
    child.stdin.take().unwrap().write_all(prompt.join(" ").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let logits: Vec<f32> = words(&output.stdout).map(f32::from_le_bytes).collect();
    assert_eq!(logits.len(), expected.len());
    for (i, (got, expected)) in logits.iter().zip(expected).enumerate() {
        // The limit of tests/model.rs.
        assert!((got - expected).abs() <= 3e-4, "logit {i}: {got}, expected {expected}");
    }
}

/// The bytes of a tensor of a safetensors file.
fn tensor<'a>(file: &'a [u8], name: &str) -> &'a [u8] {
    let head = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let (head, data) = file[8..].split_at(head);
    let entry = std::str::from_utf8(head).unwrap().split(&format!("\"{name}\":")).nth(1).unwrap();
    let offsets = entry.split("\"data_offsets\":[").nth(1).unwrap().split(']').next().unwrap();
    let (begin, end) = offsets.split_once(',').unwrap();
    &data[begin.parse().unwrap()..end.parse().unwrap()]
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.chunks_exact(4).map(|word| word.try_into().unwrap())
}

#[test]
fn the_chat_streams_undoes_and_stops_at_ctrl_c() {
    if no_gpu("the_chat_streams_undoes_and_stops_at_ctrl_c") {
        return;
    }
    let workshop = Workshop::new();
    let program = workshop.compile(&root().join("examples/c/chat.c"), C, Watch::Memory);
    let mut child =
        command(&program, &[&model("tiny-chat")]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut until = |end: &str| {
        let mut said = vec![];
        while !said.ends_with(end.as_bytes()) {
            let mut byte = [0];
            assert_eq!(output.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
        String::from_utf8(said).unwrap()
    };
    until("> ");
    for _ in 0..2 {
        input.write_all(b"What is 3 plus 4?\n").unwrap();
        assert_eq!(until("> "), "3 plus 4 is 7.\n> ");
        input.write_all(b"/undo\n").unwrap();
        until("> ");
    }
    input.write_all(b"Tell me a story about a fox.\n").unwrap();
    until("fox");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert!(until("> ").ends_with(" (stopped)\n> "));
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_static_library_links_with_what_pkg_config_says() {
    if no_gpu("the_static_library_links_with_what_pkg_config_says") {
        return;
    }
    let workshop = Workshop::new();
    let template = std::fs::read_to_string(binding().join("peregrine.pc")).unwrap();
    let private = template.lines().find_map(|line| line.strip_prefix("Libs.private: ")).unwrap();
    let archive = workshop.file("libperegrine.a").display().to_string();
    let link: Vec<String> = [archive.as_str()].into_iter().chain(private.split(' ')).map(str::to_owned).collect();
    let program = workshop.compile_with(&source("load"), C, Watch::Nothing, &link);
    std::fs::remove_file(workshop.file("libperegrine.so")).unwrap();
    assert_eq!(outcome(&program, &[&model("tiny-chat")]), (0, String::new()));
}
