//! The command line: parses, calls the library, sets the exit code.

mod batch;
mod bench;
mod chat;
mod devices;
mod eval;
mod inspect;
mod interrupt;
mod logits;
mod model;
mod prompt;
mod quantize;
mod run;
mod sampling;
mod selftest;
mod shaders;

use clap::{CommandFactory, Parser, Subcommand};
use peregrine::Error;
use std::io::Write;
use std::process::ExitCode;

/// The version, with the commit where it was built from a checkout.
const VERSION: &str = if env!("PEREGRINE_COMMIT").is_empty() {
    env!("CARGO_PKG_VERSION")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("PEREGRINE_COMMIT"), ")")
};

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the model, or a saved state, is missing, unreadable, \
                          damaged, not supported or of another model, 4 no usable GPU, 5 out of GPU memory, 6 the self-test failed, 130 interrupted.";

/// Runs Falcon Mamba and its relatives on any GPU.
#[derive(Parser)]
#[command(name = "peregrine", version = VERSION, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Continue a text, or answer one message with -cnv
    Run(run::Run),
    /// Chat in the terminal
    Chat(chat::Chat),
    /// Answer many requests from a file, some at once
    Batch(batch::Batch),
    /// Measure how fast a model, or a shape, runs here
    Bench(bench::Bench),
    /// List the adapters of this machine
    Devices(devices::Devices),
    /// Show what is in a checkpoint and what memory it needs
    Inspect(inspect::Inspect),
    /// Write a checkpoint anew, its matrices in another format: a .gguf file or a folder
    Quantize(quantize::Quantize),
    /// Write the logits of given token ids to a file
    Logits(logits::Logits),
    /// Score a model on a text, or questions, also against another model or format
    Eval(eval::Eval),
    /// Show on this machine that the numbers are right
    Selftest(selftest::Selftest),
    /// Print a script that completes commands in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Spellings of llama.cpp that clap cannot parse: several letters after one dash.
const SPELLINGS: &[(&str, &str)] =
    &[("-cnv", "--conversation"), ("-no-cnv", "--no-conversation"), ("-sys", "--system-prompt"), ("-dev", "--device")];

/// Runs the program.
pub fn main() -> ExitCode {
    quiet_drivers();
    let arguments = std::env::args_os().map(|argument| {
        let spelling = SPELLINGS.iter().find(|(short, _)| argument == *short);
        spelling.map_or(argument, |(_, long)| (*long).into())
    });
    let outcome = match Cli::parse_from(arguments).command {
        Command::Run(run) => run.run(),
        Command::Chat(chat) => chat.run(),
        Command::Batch(batch) => batch.run(),
        Command::Bench(bench) => bench.run(),
        Command::Devices(devices) => devices.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Quantize(quantize) => quantize.run(),
        Command::Logits(logits) => logits.run(),
        Command::Eval(eval) => eval.run(),
        Command::Selftest(selftest) => selftest.run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "peregrine", &mut script);
            std::io::stdout().write_all(&script).map_err(Into::into)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Keeps lines that begin with "error" from those who have no desktop, in a container or by ssh: Mesa's drivers ask libwayland
/// for a display, which complains where `XDG_RUNTIME_DIR` is no folder. Nothing is shown here, so there need be no display.
fn quiet_drivers() {
    #[cfg(all(unix, not(target_vendor = "apple")))]
    if std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|dir| !std::path::Path::new(&dir).is_absolute()) {
        // SAFETY: this is the first thing that the program does: no other thread reads the environment meanwhile.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", "/nonexistent") };
    }
}

/// Whoever read our output has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<selftest::Failed>() {
        return 6;
    }
    match error.downcast_ref::<Error>() {
        Some(
            Error::ModelNotFound { .. }
            | Error::IncompleteCheckpoint { .. }
            | Error::MissingPart { .. }
            | Error::PickleOnly { .. }
            | Error::Unreadable { .. }
            | Error::WrongKind { .. }
            | Error::BadJson { .. }
            | Error::BadConfig { .. }
            | Error::Unsupported { .. }
            | Error::BadSafetensors { .. }
            | Error::BadGguf { .. }
            | Error::UnsafeShard { .. }
            | Error::MissingTensor { .. }
            | Error::UnusedTensor { .. }
            | Error::BadQuantization { .. }
            | Error::WrongShape { .. }
            | Error::WrongDtype { .. }
            | Error::Tokenizer { .. }
            | Error::Template { .. }
            | Error::NotAState { .. }
            | Error::NewerState { .. }
            | Error::DamagedState { .. }
            | Error::StateOfAnotherModel { .. },
        ) => 3,
        Some(Error::NoAdapter { .. } | Error::UnknownDevice { .. }) => 4,
        Some(Error::OutOfMemory { .. } | Error::DoesNotFit { .. }) => 5,
        Some(Error::Cancelled) => 130,
        Some(
            Error::BadSwitch { .. } | Error::BadShaders { .. } | Error::BadSetting { .. } | Error::BadOutput { .. },
        ) => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
