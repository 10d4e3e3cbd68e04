//! The command line: parses, calls the library, sets the exit code.

mod batch;
mod bench;
mod byte_size;
mod chat;
mod devices;
mod escape;
mod eval;
mod exit;
mod force;
mod inspect;
mod interrupt;
mod llama_flags;
mod logits;
mod model;
mod prompt;
mod quantize;
mod run;
mod sampling;
mod selftest;
mod shader_override;
mod template;
mod weight_format;

use clap::{CommandFactory, Parser, Subcommand};
use exit::{EXIT_CODES, exit_code, is_broken_pipe, message};
use std::io::Write;
use std::process::ExitCode;

/// The version, with the commit where it was built from a checkout.
const VERSION: &str = if env!("PEREGRINE_COMMIT").is_empty() {
    env!("CARGO_PKG_VERSION")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("PEREGRINE_COMMIT"), ")")
};

/// What the help ends with.
const AFTER_HELP: &str = "What a command writes never replaces a file that is there, unless --force says so. Flags of llama.cpp that \
                          have no meaning here, such as -ngl, -c and -t, are taken, and a line says why they are not needed.";

/// Runs Falcon Mamba and its relatives on any GPU.
#[derive(Parser)]
#[command(name = "peregrine", version = VERSION, after_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}"), arg_required_else_help = true)]
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

/// Runs the program.
pub fn main() -> ExitCode {
    quiet_drivers();
    let outcome = match Cli::parse_from(llama_flags::spelled(std::env::args_os())).command {
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
            // The terminal may be gone.
            let _ = writeln!(std::io::stderr(), "error: {}", message(&error));
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
