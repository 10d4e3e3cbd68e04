//! Command line arguments: exit codes and messages, escapes, newlines, llama.cpp's flags, and existing outputs.

mod common;
mod program;

use common::{fixture, no_gpu};
use program::{piped, refused, run, stderr, stdout};

/// Arguments, the exit code, and words on stderr.
type Ending<'a> = (&'a [&'a str], i32, &'a [&'a str]);

/// Checks that each run ends with its code and one error line, with the system's message once.
fn check_endings(endings: &[Ending]) {
    for (arguments, code, said) in endings {
        let output = run(arguments);
        refused(&output, *code, said);
        let text = stderr(&output);
        assert_eq!(text.matches("error: ").count(), 1, "{arguments:?}: {text}");
        assert!(text.matches("os error").count() <= 1, "{arguments:?}: {text}");
    }
}

#[test]
fn bad_arguments_have_their_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let made = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (there, shape) = (made("there", "precious"), made("shape/config.json", "{"));
    let new = dir.path().join("new").to_str().unwrap().to_owned();
    // Root can read any file, but not a folder.
    made("unreadable/config.json/x", "");
    made("no-weights/config.json", "{}");
    let [unreadable, no_weights] = ["unreadable", "no-weights"].map(|name| dir.path().join(name).display().to_string());
    let model = fixture("mamba-tiny");
    let model = model.to_str().unwrap();
    let missing = "No such file";
    check_endings(&[
        // The model or the state is missing or unreadable.
        (&["run", "-p", "x", "-m", "/no/such"], 3, &["/no/such"]),
        (&["run", "-p", "x", "-m", &unreadable], 3, &["cannot read", "config.json"]),
        (&["inspect", "-m", &no_weights], 3, &["no-weights"]),
        (&["quantize", "-m", "/no/such", "-w", "q8_0", "-o", &new], 3, &["/no/such"]),
        (&["bench", "-m", "/no/such"], 3, &["/no/such"]),
        (&["bench", "--shape", &shape], 3, &["config.json"]),
        (&["run", "-p", "x", "--tokenizer", "/no/such"], 3, &["cannot read /no/such", missing]),
        (&["run", "--load-state", "/no/such"], 3, &["cannot read /no/such", missing]),
        (&["run", "--load-state", dir.path().to_str().unwrap()], 3, &["cannot read"]),
        (&["run", "--load-state", &there], 3, &[&there, "damaged"]),
        // Other files are missing.
        (&["run", "-f", "/no/such"], 1, &["cannot read /no/such", missing]),
        (&["run", "-p", "x", "-cnv", "--chat-template-file", "/no/such"], 1, &["cannot read /no/such", missing]),
        (&["batch", "-i", "/no/such", "-o", &new], 1, &["cannot read /no/such", missing]),
        (&["eval", "-f", "/no/such"], 1, &["cannot read /no/such", missing]),
        (&["logits", "--ids-file", "/no/such", "-o", &new], 1, &["cannot read /no/such", missing]),
        // Invalid values.
        (&["run", "-p", "x", "-l", "nonsense"], 2, &["nonsense", "ID+X"]),
        (&["run", "-p", "x", "-l", "7+nan"], 2, &["7+nan", "ID+X"]),
        (&["run", "-p", "x", "-w", "nonsense"], 2, &["nonsense", "available: f32"]),
        (&["run", "-p", "x", "-w", "Q2_K"], 2, &["Q2_K", "4 bits"]),
        (&["run", "-p", r"x\xff"], 2, &["-p", "UTF-8", "--no-escape"]),
        (&["run", "-p", "x", "--mirostat", "2"], 2, &["--mirostat", "not supported"]),
        (&["run", "-p", "x", "-mu", "https://a/b.gguf"], 2, &["-mu", "-hf user/repo"]),
        (&["logits", "-m", model, "--ids", "a", "-o", &new], 2, &["\"a\"", "token id"]),
        (&["logits", "-m", model, "--ids", "1,288", "-o", &new], 2, &["288", "0 to 287"]),
        (&["bench", "--shape", "nope"], 2, &["nope", "mamba-130m"]),
        (&["bench", "--longest", "-o", "csv"], 2, &["--longest", "json"]),
        (&["selftest", "--plant", "nope"], 2, &["nope", "ssm_step"]),
        // Existing files are kept.
        (&["run", "-p", "x", "--save-state", &there], 2, &[&there, "already exists", "--force"]),
        (&["logits", "-m", model, "--ids", "1", "-o", &there], 2, &[&there, "already exists", "--force"]),
        (&["quantize", "-w", "q8_0", "-o", &there], 2, &[&there, "--force"]),
        (&["bench", "--picture", &there], 2, &[&there, "already exists", "--force"]),
        (&["batch", "-i", &shape, "-o", &there], 2, &[&there, "--force"]),
    ]);
    assert_eq!(std::fs::read_to_string(&there).unwrap(), "precious");
    if no_gpu("bad_arguments_have_their_exit_codes") {
        return;
    }
    check_endings(&[
        (&["selftest", "--only", "nope"], 2, &["nope", "ssm_step"]),
        (&["run", "-p", "x", "--temp", "-1"], 2, &["temperature is -1"]),
        (&["run", "-p", "x", "--device", "Voodoo"], 4, &["Voodoo"]),
        (&["bench", "--shape", "mamba-2.8b", "--memory", "3G"], 5, &["it may take", "--weights"]),
        (&["run", "-p", "x", "--memory", "1M"], 5, &["it may take"]),
    ]);
}

#[test]
fn existing_outputs_are_replaced_only_with_force() {
    if no_gpu("existing_outputs_are_replaced_only_with_force") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let path = out.to_str().unwrap();
    let model = fixture("mamba-tiny");
    let model = model.to_str().unwrap();
    for command in [
        &["run", "-p", "Once", "-n", "1", "--save-state", path][..],
        &["logits", "-m", model, "--ids", "1", "-o", path],
        &["bench", "-p", "0", "-n", "1", "-r", "1", "--no-warmup", "--picture", path],
    ] {
        std::fs::write(&out, "precious").unwrap();
        refused(&run(command), 2, &["already exists"]);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "precious", "{command:?}");
        stdout(&run(&[command, &["--force"]].concat()));
        assert_ne!(std::fs::read(&out).unwrap(), b"precious", "{command:?}");
    }
    // The file of --load-state may be overwritten.
    stdout(&run(&["run", "-p", "Once", "-n", "1", "--save-state", path, "--force"]));
    let before = std::fs::read(&out).unwrap();
    stdout(&run(&["run", "--load-state", path, "--save-state", path, "-n", "1"]));
    assert_ne!(std::fs::read(&out).unwrap(), before);
}

#[test]
fn escapes_and_newlines_are_handled_as_in_llama_cpp() {
    if no_gpu("escapes_and_newlines_are_handled_as_in_llama_cpp") {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let answer = ["-n", "12", "--temp", "0", "--repeat-penalty", "1.3"];
    let of_file = |text: &str| {
        std::fs::write(path, text).unwrap();
        stdout(&run(&[&["run", "-f", path], &answer[..]].concat()))
    };
    let of_text = |more: &[&str]| stdout(&run(&[&["run"], more, &answer[..]].concat()));
    let of_stdin = |text: &str| stdout(&piped(&[&["run", "-p", "-"], &answer[..]].concat(), text.as_bytes()));
    let plain = of_text(&["-p", "Once upon a time"]);
    let two_lines = of_file("Once upon\na time");
    assert_ne!(two_lines, plain);
    // Exactly one newline at the end of a file or of stdin is dropped.
    assert_eq!([of_file("Once upon a time\n"), of_stdin("Once upon a time\n")], [plain.clone(), plain.clone()]);
    let one_left = of_text(&["-p", "Once upon a time\n"]);
    assert_ne!(one_left, plain);
    assert_eq!([of_file("Once upon a time\n\n"), of_stdin("Once upon a time\n\n")], [one_left.clone(), one_left]);
    // Escapes are processed on the command line only.
    assert_eq!(of_text(&["-p", r"Once upon\na time"]), two_lines);
    assert_eq!(of_text(&["-e", "-p", r"Once upon\x0aa time"]), two_lines);
    let literal = of_text(&["--no-escape", "-p", r"Once upon\na time"]);
    assert_ne!(literal, two_lines);
    assert_eq!([of_file(r"Once upon\na time"), of_stdin(r"Once upon\na time")], [literal.clone(), literal]);
    let stopped = of_text(&["-p", "Once upon a time", "-r", r"a\x20kind"]);
    assert_eq!(stopped.strip_suffix('\n'), plain.split("a kind").next());
}

#[test]
fn llama_cpp_flags_are_accepted_and_explained() {
    if no_gpu("llama_cpp_flags_are_accepted_and_explained") {
        return;
    }
    let typed = "run -p Once -n 4 --temp 0 -ngl 99 -c 4096 -t 8 -b 512 -ub 64 --mlock --no-mmap -fa on -w Q8_0 --no-display-prompt";
    let taken = run(&typed.split(' ').collect::<Vec<_>>());
    assert_eq!(stdout(&taken), stdout(&run(&["run", "-p", "Once", "-n", "4", "--temp", "0", "-w", "q8_0"])));
    let said = stderr(&taken);
    for line in [
        "-ngl: not needed: all layers",
        "-c: not needed: the recurrent state has a fixed size",
        "-t: ",
        "-b: ",
        "--mlock: ",
        "-fa: ",
    ] {
        assert_eq!(said.lines().filter(|said| said.starts_with(line)).count(), 1, "{line}: {said}");
    }
    assert!(!said.contains("display-prompt"), "{said}");
    let named = run(&["run", "-p", "Once", "-n", "1", "-w", "Q4_K_M"]);
    stdout(&named);
    assert!(stderr(&named).contains("-w Q4_K_M: using q4_K"), "{}", stderr(&named));
    // The flags are hidden in --help, which mentions that they are accepted.
    let help = stdout(&run(&["run", "--help"]));
    assert!(!help.contains("ctx-size") && help.contains("--no-escape") && help.contains("--force"), "{help}");
    assert!(stdout(&run(&["--help"])).contains("-ngl"));
}
