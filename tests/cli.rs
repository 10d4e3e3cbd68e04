//! The program: stdout, stderr and exit codes.

mod common;
mod program;

use common::{Expected, TINY, close, fixture, no_gpu, shipped};
use program::{answer, peregrine, piped, refused, run, stderr, stdout};
use std::path::Path;
use std::process::Stdio;

const STORY: &str = ", there was a kind boy called Ravi. Ravi liked to play near the pond.";

#[test]
fn run_prints_only_the_answer() {
    if no_gpu("run_prints_only_the_answer") {
        return;
    }
    let text = stdout(&run(&["run", "-p", "Once upon a time", "-n", "60", "--temp", "0"]));
    assert!(text.starts_with(STORY), "{text:?}");
    // The same from stdin, from a file, from a pipe without -p, from the folder, in chunks of one token.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "Once upon a time").unwrap();
    let path = file.path().to_str().unwrap();
    let model = shipped("tiny-chat");
    let model = model.to_str().unwrap();
    assert_eq!(stdout(&piped(&["run", "-p", "-", "-n", "60", "--temp", "0"], b"Once upon a time")), text);
    assert_eq!(stdout(&piped(&["run", "-n", "60", "--temp", "0"], b"Once upon a time")), text);
    assert_eq!(stdout(&run(&["run", "-f", path, "-n", "60", "--temp", "0"])), text);
    let by_one = ["run", "-m", model, "-p", "Once upon a time", "-n", "60", "--temp", "0", "--chunk", "1"];
    assert_eq!(stdout(&run(&by_one)), text);
    // A newline ends it.
    assert_eq!(stdout(&run(&["run", "-cnv", "-p", "What is 12 plus 2?", "--temp", "0"])), "12 plus 2 is 14.\n");
}

#[test]
fn an_empty_answer_has_a_note_with_the_reason() {
    if no_gpu("an_empty_answer_has_a_note_with_the_reason") {
        return;
    }
    let said = |more: &[&str]| {
        let output = run(&[&["run", "-cnv", "-p", "What is 12 plus 2?", "--temp", "0"], more].concat());
        assert_eq!(stdout(&output), "", "{more:?}");
        stderr(&output)
    };
    assert!(said(&["-n", "0"]).contains("its limit is 0 tokens"));
    assert!(said(&["-r", "12"]).contains("began with a stop string"));
    // A bias forces EOS: every answer is empty.
    let end = said(&["-l", "2+1000"]);
    assert!(end.contains("the model ended it at once"), "{end}");
    assert!(!end.contains("0 tokens"), "{end}");
    // Statistics leave out what did not happen.
    assert!(!said(&["-n", "0", "-v"]).contains("Generation"));
}

#[test]
fn a_seed_repeats_a_text() {
    if no_gpu("a_seed_repeats_a_text") {
        return;
    }
    let with = |seed: &str| run(&["run", "-p", "Once upon a time", "-n", "25", "--temp", "1.3", "--seed", seed]);
    let text = stdout(&with("7"));
    assert_eq!(stdout(&with("7")), text);
    assert_ne!(stdout(&with("8")), text);
    // A drawn seed is printed, and repeats the text.
    let drawn = with("-1");
    let said = stderr(&drawn);
    let seed = said.lines().find_map(|line| line.strip_prefix("seed ")).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(stdout(&with(seed)), stdout(&drawn));
}

#[test]
fn special_tokens_in_a_prompt_are_text_unless_requested() {
    if no_gpu("special_tokens_in_a_prompt_are_text_unless_requested") {
        return;
    }
    let chat = "<|im_start|>user\nWhat is 12 plus 2?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(answer(&run(&["run", "--parse-special", "-p", chat, "--temp", "0"])), "12 plus 2 is 14.");
    assert_ne!(answer(&run(&["run", "-p", chat, "-n", "12", "--temp", "0"])), "12 plus 2 is 14.");
}

#[test]
fn chat_works_through_a_pipe() {
    if no_gpu("chat_works_through_a_pipe") {
        return;
    }
    let said =
        piped(&["chat", "--temp", "0"], b"What is 3 plus 4?\n\n/nonsense\nWhat is 12 plus 2?\n/exit\nnever read\n");
    assert_eq!(stdout(&said), "3 plus 4 is 7.\n12 plus 2 is 14.\n");
    assert!(stderr(&said).contains("/nonsense"));
    // Commands work in a pipe too; everything but answers goes to stderr.
    let script = b"\"\"\"What is\n3 plus 4?\"\"\"\nWhat is \\\n3 plus 4?\n/regen\n/system Be kind.\n/system\n/tokens\n/stats\nHello!\n/set n 2\n/continue\n";
    let said = piped(&["chat", "--temp", "0"], script);
    let lines: Vec<String> = stdout(&said).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!((&lines[0], &lines[1]), (&"3 plus 4 is 7.".to_owned(), &lines[2]));
    for note in ["will be the same", "Be kind.", "5 messages, ", "[ Prompt: ", "nothing to continue", "read again"] {
        assert!(stderr(&said).contains(note), "{note}: {}", stderr(&said));
    }
    // The end of the input leaves the chat; /clear starts over.
    assert_eq!(stdout(&piped(&["chat", "--temp", "0"], b"What is 3 plus 4?\n/clear\n")), "3 plus 4 is 7.\n");
}

#[test]
fn logits_are_written_for_other_runtimes_to_compare() {
    if no_gpu("logits_are_written_for_other_runtimes_to_compare") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    let ids_file = dir.path().join("ids.txt");
    for name in ["falcon-tiny", "mamba-tiny"] {
        let expected = Expected::read(&fixture(name).join("expected.safetensors"));
        let layers = if name == "falcon-tiny" { 3 } else { 2 };
        for length in [5, 64] {
            let ids: Vec<String> = expected.ids(&format!("ids.{length}")).iter().map(u32::to_string).collect();
            std::fs::write(&ids_file, ids.join(",\n ")).unwrap();
            for input in [["--ids", &ids.join(",")], ["--ids-file", ids_file.to_str().unwrap()]] {
                let model = fixture(name);
                let mut command = peregrine();
                command.args(["logits", "-m", model.to_str().unwrap(), "--states", "--chunk", "7", "--force", "-o"]);
                stdout(&command.arg(&out).args(input).output().unwrap());
                let got = Expected::read(&out);
                assert_eq!(got.shape("logits"), expected.shape(&format!("logits.{length}")));
                close(name, &got.f32("logits"), expected.get(&format!("logits.{length}")), |_| 3e-4);
                for i in 0..layers {
                    for kind in ["conv_state", "ssm_state"] {
                        let key = format!("{kind}.{length}.{i}");
                        assert_eq!(got.shape(&format!("{kind}.{i}")), expected.shape(&key), "{name} {key}");
                        close(&key, &got.f32(&format!("{kind}.{i}")), expected.get(&key), |_| 1e-3);
                    }
                }
            }
        }
    }
    // Without --states only the logits are written; no temporary file is left.
    let model = fixture("mamba-tiny");
    stdout(
        &peregrine()
            .args(["logits", "-m", model.to_str().unwrap(), "--ids", "1", "--force", "-o"])
            .arg(&out)
            .output()
            .unwrap(),
    );
    assert_eq!(Expected::read(&out).names().collect::<Vec<_>>(), ["logits"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn devices_lists_adapters_and_switches() {
    if no_gpu("devices_lists_adapters_and_switches") {
        return;
    }
    let text = stdout(&run(&["devices"]));
    assert!(
        text.starts_with("0: ") && text.contains("PEREGRINE_DISABLE") && text.contains("bytes of a binding: needed"),
        "{text}"
    );
    assert!(text.contains("q4_0: 4.") && text.contains("features: "), "{text}");
    let json: serde_json::Value = serde_json::from_str(&stdout(&run(&["devices", "--json"]))).unwrap();
    assert_eq!(json["devices"][0]["index"], 0);
    let name = json["chosen"]["name"].as_str().unwrap();
    let by_name = stdout(&run(&["devices", "--json", "--device", &name.to_uppercase()]));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&by_name).unwrap()["chosen"], json["chosen"]);
    assert_eq!(stdout(&run(&["devices", "--device", "0"])), text);
}

#[test]
fn an_unknown_device_is_rejected() {
    if no_gpu("an_unknown_device_is_rejected") {
        return;
    }
    for device in ["99", "Voodoo"] {
        refused(&run(&["run", "-p", "x", "--device", device]), 4, &[device, "0: "]);
    }
    refused(&peregrine().args(["run", "-p", "x"]).env("PEREGRINE_ADAPTER", "Voodoo").output().unwrap(), 4, &["Voodoo"]);
    let bad = peregrine().args(["run", "-p", "x"]).env("PEREGRINE_DISABLE", "subgruops").output().unwrap();
    refused(&bad, 2, &["PEREGRINE_DISABLE", "subgruops", "subgroups"]);
}

#[test]
fn without_an_adapter_it_says_what_to_install() {
    let mut command = peregrine();
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(variable, "/nonexistent.json");
    }
    command.env("WGPU_BACKEND", "vulkan").args(["run", "-p", "x"]);
    refused(&command.output().unwrap(), 4, &["no GPU adapter found", "mesa-vulkan-drivers"]);
}

#[test]
fn a_small_binding_limit_uses_shards_or_is_an_error_by_name() {
    if no_gpu("a_small_binding_limit_uses_shards_or_is_an_error_by_name") {
        return;
    }
    let limited = |limit: &str| {
        let arguments = ["run", "-p", "Once upon a time", "-n", "20", "--temp", "0"];
        peregrine().args(arguments).env("PEREGRINE_BINDING_LIMIT", limit).output().unwrap()
    };
    assert_eq!(stdout(&limited("9000")), stdout(&run(&["run", "-p", "Once upon a time", "-n", "20", "--temp", "0"])));
    refused(&limited("300"), 1, &["binds at most 300"]);
}

#[test]
fn bad_models_have_their_own_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    TINY.write(dir.path());
    let model = dir.path().to_str().unwrap();
    for command in [&["run", "-p", "x"][..], &["chat"], &["inspect"]] {
        refused(&run(&[command, &["-m", "/no/such"]].concat()), 3, &["/no/such"]);
    }
    refused(&run(&["run", "-m", model, "-p", "x"]), 3, &["tokenizer.json"]);
    let original = fixture("mamba-tiny-original");
    refused(&run(&["run", "-m", original.to_str().unwrap(), "-p", "x"]), 3, &["tokenizer.json"]);
    let env = peregrine().args(["run", "-p", "x"]).env("PEREGRINE_MODEL", "/no/such").output().unwrap();
    refused(&env, 3, &["/no/such"]);
    std::fs::write(dir.path().join("model.safetensors"), &TINY.safetensors()[..100]).unwrap();
    let out = dir.path().join("out.safetensors");
    let logits = run(&["logits", "-m", model, "--ids", "1", "-o", out.to_str().unwrap()]);
    refused(&logits, 3, &["model.safetensors"]);
    assert!(!out.exists());
}

#[test]
fn bad_input_of_logits_is_rejected_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    let model = fixture("mamba-tiny");
    let logits = |input: &[&str], out: &Path| {
        let mut command = peregrine();
        command.args(["logits", "-m", model.to_str().unwrap(), "-o"]).arg(out).args(input).output().unwrap()
    };
    refused(&logits(&["--ids", "1,288"], &out), 2, &["288", "position 1", "0 to 287"]);
    refused(&logits(&["--ids", "1,-2"], &out), 2, &["-2"]);
    refused(&logits(&["--ids", "1,two"], &out), 2, &["two"]);
    refused(&logits(&["--ids", "99999999999"], &out), 2, &["99999999999"]);
    refused(&logits(&["--ids", ""], &out), 2, &["no token ids"]);
    refused(&logits(&["--ids", ", ,"], &out), 2, &["no token ids"]);
    refused(&logits(&[], &out), 2, &["--ids"]);
    refused(&logits(&["--ids-file", "/no/such/ids"], &out), 1, &["/no/such/ids"]);
    refused(&logits(&["--ids", "1"], &dir.path().join("no/such/out")), 1, &["no/such/out"]);
    refused(&logits(&["--ids", "1"], dir.path()), 1, &[dir.path().to_str().unwrap()]);
    if !no_gpu("bad_input_of_logits_is_rejected_and_writes_nothing") {
        refused(&logits(&["--ids", "1", "--chunk", "0"], &out), 2, &["chunk is 0"]);
        refused(&logits(&["--ids", "1", "--chunk", "100000"], &out), 2, &["chunk is 100000"]);
        // The existing file is kept.
        std::fs::write(&out, "precious").unwrap();
        refused(&logits(&["--ids", "999", "--force"], &out), 2, &["999"]);
        refused(&logits(&["--ids", "1", "--force", "--device", "99"], &out), 4, &["99"]);
        refused(&logits(&["--ids", "1"], &out), 2, &["already exists", "--force"]);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "precious");
        std::fs::remove_file(&out).unwrap();
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn bad_input_of_run_is_rejected() {
    refused(&run(&["run", "-p", "x", "-f", "y"]), 2, &["--prompt", "--file"]);
    refused(&run(&["run", "-f", "/no/such/prompt"]), 1, &["/no/such/prompt"]);
    refused(&run(&["run", "-p", "x", "--temp", "hot"]), 2, &["hot"]);
    refused(&run(&["run", "-p", "x", "--frobnicate"]), 2, &["--frobnicate"]);
    refused(&piped(&["run"], b"a\xffb"), 1, &["UTF-8", "offset 1"]);
    if no_gpu("bad_input_of_run_is_rejected") {
        return;
    }
    refused(&run(&["run", "-p", ""]), 1, &["empty"]);
    refused(&run(&["run", "-p", "x", "--top-p", "1.5"]), 2, &["top_p is 1.5"]);
    refused(&run(&["run", "-p", "x", "--temp", "-1"]), 2, &["temp"]);
    let no_template = shipped("induction-heads");
    refused(&run(&["run", "-m", no_template.to_str().unwrap(), "-cnv", "-p", "abc"]), 3, &["chat_template"]);
}

#[test]
fn a_closed_output_pipe_is_no_failure() {
    if no_gpu("a_closed_output_pipe_is_no_failure") {
        return;
    }
    let mut command = peregrine();
    command.args(["run", "-p", "Once upon a time", "-n", "100"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && !stderr(&output).contains("panicked"), "{}", stderr(&output));
}

#[test]
fn help_names_the_exit_codes_and_version_prints() {
    let help = stdout(&run(&["--help"]));
    for word in ["run", "chat", "devices", "logits", "selftest", "Exit codes", "4 no usable GPU"] {
        assert!(help.contains(word), "{word}");
    }
    assert!(stdout(&run(&["--version"])).starts_with("peregrine "));
    assert_eq!(run(&[]).status.code(), Some(2));
}

#[test]
fn selftest_passes_and_finds_a_planted_fault() {
    if no_gpu("selftest_passes_and_finds_a_planted_fault") {
        return;
    }
    // One kernel family and one model check; tests/kernels.rs runs all, which takes minutes to compile.
    for (only, row) in [("ssm_step", "kernel  ssm_step "), ("chunks", "model   chunks of 1, 3 and 24")] {
        let text = stdout(&run(&["selftest", "--only", only]));
        assert!(text.contains(row), "{text}");
        assert!(text.trim_end().lines().last().unwrap().starts_with("PASS "), "{text}");
    }
    let planted = run(&["selftest", "--quick", "--plant", "rms_norm", "--only", "norm", "--markdown"]);
    assert_eq!(planted.status.code(), Some(6));
    let text = String::from_utf8(planted.stdout).unwrap();
    assert!(text.contains("FAIL rms_norm 1x1") && text.contains("| dbc_norm | kernel |"), "{text}");
    refused(&run(&["selftest", "--plant", "nonsense"]), 2, &["nonsense", "ssm_step"]);
    refused(&run(&["selftest", "--adapter", "Voodoo"]), 4, &["Voodoo"]);
}

#[test]
fn inspect_reports_memory_needs_without_loading() {
    if no_gpu("inspect_reports_memory_needs_without_loading") {
        return;
    }
    let text = stdout(&run(&["inspect"]));
    for word in ["Falcon Mamba: 8 layers", "parameters   2800320", "bf16", "state", "staging", "backup", "device"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    // The plan equals what loading takes, except for the parameters of dispatches.
    for (dir, slots, chunk) in [(shipped("tiny-chat"), 1, 512), (fixture("mamba-tiny"), 3, 7)] {
        let (model, slots_text, chunk_text) = (dir.to_str().unwrap(), slots.to_string(), chunk.to_string());
        let arguments = ["inspect", "--json", "-m", model, "--slots", &slots_text, "--chunk", &chunk_text];
        let json: serde_json::Value = serde_json::from_str(&stdout(&run(&arguments))).unwrap();
        let planned = json["memory"]["total"].as_u64().unwrap();
        let gpu = common::gpu();
        let checkpoint = peregrine::runtime::Checkpoint::open(&dir).unwrap();
        let options = peregrine::runtime::EngineOptions::default().slots(slots).chunk(chunk);
        let engine = peregrine::runtime::Engine::load(&gpu, checkpoint, options, &mut |_| {}).unwrap();
        let taken = gpu.allocated_bytes();
        assert!(planned <= taken && taken - planned < 40_000, "planned {planned}, taken {taken}");
        drop(engine);
    }
    let small = peregrine().arg("inspect").env("PEREGRINE_BINDING_LIMIT", "9000").output().unwrap();
    assert!(stdout(&small).contains("shards"), "{}", stdout(&small));
}

#[test]
fn a_given_chat_template_is_used_and_noted() {
    if no_gpu("a_given_chat_template_is_used_and_noted") {
        return;
    }
    let question = ["run", "-cnv", "-p", "What is 12 plus 2?", "-n", "20", "--temp", "0"];
    let with = |more: &[&str]| run(&[&question[..], more].concat());
    let chatml = with(&["--chat-template", "chatml"]);
    assert_eq!(answer(&chatml), "12 plus 2 is 14.");
    assert!(stderr(&chatml).contains("using chat template chatml"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{{ raise_exception('not like this') }}").unwrap();
    refused(&with(&["--chat-template-file", file.path().to_str().unwrap()]), 3, &["not like this"]);
    refused(&with(&["--chat-template", "{% if %}"]), 3, &["line 1"]);
    refused(&with(&["--chat-template-file", "/no/such"]), 1, &["/no/such"]);
    // Names are case-insensitive and never parsed as templates.
    assert!(stderr(&with(&["--chat-template", "Zephyr"])).contains("using chat template zephyr"));
    refused(&with(&["--chat-template", "zefyr"]), 2, &["zefyr", "chatml, falcon3", "zephyr"]);
    refused(&with(&["--chat-template", "{{ bos_token }}"]), 3, &["does not print the messages"]);
    assert!(stdout(&run(&["run", "--help"])).contains("chatml, falcon3"));
}

#[test]
fn stop_strings_and_penalties_work_from_the_command_line() {
    if no_gpu("stop_strings_and_penalties_work_from_the_command_line") {
        return;
    }
    let story =
        |more: &[&str]| answer(&run(&[&["run", "-p", "Once upon a time", "-n", "30", "--temp", "0"], more].concat()));
    assert_eq!(story(&["-r", " called"]), ", there was a kind boy");
    assert_eq!(story(&["-r", "xyz", "-r", "kind boy"]), ", there was a ");
    assert_ne!(story(&["--repeat-penalty", "1.8"]), story(&[]));
    assert!(!story(&["--presence-penalty", "100"]).contains("Ravi. Ravi"));
    let endless = run(&["run", "-cnv", "-p", "What is 12 plus 2?", "-n", "40", "--ignore-eos"]);
    assert!(stdout(&endless).len() > "12 plus 2 is 14.".len());
    refused(&run(&["run", "-p", "x", "--repeat-penalty", "0"]), 2, &["repeat_penalty is 0"]);
    refused(&run(&["run", "-p", "x", "--repeat-last-n", "5000"]), 2, &["repeat_last_n"]);
    refused(&run(&["run", "-p", "x", "-l", "nonsense"]), 2, &["nonsense"]);
    refused(&run(&["run", "-p", "x", "-l", "9999999+1"]), 2, &["logit_bias", "9999999"]);
}

#[test]
fn completions_man_pages_and_the_version_are_printed() {
    let script = stdout(&run(&["completions", "bash"]));
    assert!(script.contains("--repeat-penalty") && script.contains("selftest"));
    let page = stdout(&run(&["man"]));
    assert!(page.contains(".TH peregrine 1") && page.contains("peregrine\\-run(1)"), "{page}");
    let page = stdout(&run(&["man", "run"]));
    assert!(page.contains(".TH peregrine-run 1") && page.contains("repeat\\-penalty"), "{page}");
    refused(&run(&["man", "rum"]), 2, &["rum"]);
    let version = stdout(&run(&["--version"]));
    assert!(version.starts_with(concat!("peregrine ", env!("CARGO_PKG_VERSION"))), "{version}");
}
