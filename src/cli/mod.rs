//! The command line: parses arguments, calls the library, sets the exit code.

mod batch;
mod bench;
mod byte_size;
mod chat;
mod constraint;
mod devices;
mod doctor;
mod escape;
mod eval;
mod exit;
mod force;
mod hub;
mod inspect;
mod interrupt;
mod llama_flags;
mod logits;
mod losses;
mod model;
mod models;
mod prompt;
mod quantize;
mod run;
mod sampling;
mod selftest;
mod serve;
mod shader_override;
mod template;
mod vision;
mod weight_format;

use clap::{CommandFactory, Parser, Subcommand};
use exit::{EXIT_CODES, exit_code, is_broken_pipe, message};
use std::io::Write;
use std::process::ExitCode;

/// The version, with the commit if built from a git checkout.
const VERSION: &str = if env!("PEREGRINE_COMMIT").is_empty() {
    env!("CARGO_PKG_VERSION")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("PEREGRINE_COMMIT"), ")")
};

/// Printed at the end of `--help`.
const AFTER_HELP: &str = "Existing files are never overwritten without --force. llama.cpp flags that are not needed here, such as \
                          -ngl, -c and -t, are accepted with a note.";

/// Runs Falcon Mamba and other Mamba models on any GPU: text, and pictures by Vision Mamba.
#[derive(Parser)]
#[command(name = "peregrine", version = VERSION, after_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}"), arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Generate text from a prompt, or answer one message with -cnv
    Run(run::Run),
    /// Chat with a model in the terminal
    Chat(chat::Chat),
    /// Answer a file of OpenAI-style requests, several at a time
    Batch(batch::Batch),
    /// Serve OpenAI's API over HTTP, and conversations as states that can be downloaded, forked and continued anywhere
    Serve(serve::Serve),
    /// Measure prompt and generation speed, and print a llama-bench table with bytes per token and the bandwidth roofline
    Bench(bench::Bench),
    /// List GPU adapters, their features and limits, the kernels and formats for them, and the environment variables
    Devices(devices::Devices),
    /// Find out what is wrong with this machine's drivers and folders, and what to install
    Doctor(doctor::Doctor),
    /// Print a checkpoint's config, tensor types and memory needs
    Inspect(inspect::Inspect),
    /// List the models in the cache of the Hugging Face hub, and the short names
    Models(models::Models),
    /// Convert a checkpoint's matrices to another format, into a .gguf file or a folder
    Quantize(quantize::Quantize),
    /// Classify pictures
    Classify(vision::Classify),
    /// Write features of pictures to a safetensors file: class tokens and maps
    Features(vision::WriteFeatures),
    /// Write the logits of given token ids to a safetensors file
    Logits(logits::Logits),
    /// Measure perplexity on a text or accuracy on questions or pictures, and compare with another model or format
    Eval(eval::Eval),
    /// Check this machine's GPUs: what drivers promise, every kernel and a small model against CPU references, speed
    Selftest(selftest::Selftest),
    /// Print a shell completion script
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
    /// Print a man page: the program's, or a command's
    Man {
        /// Command, such as run
        command: Option<String>,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    quiet_drivers();
    let outcome = match Cli::parse_from(llama_flags::expand_spellings(std::env::args_os())).command {
        Command::Run(run) => run.run(),
        Command::Chat(chat) => chat.run(),
        Command::Batch(batch) => batch.run(),
        Command::Serve(serve) => serve.run(),
        Command::Bench(bench) => bench.run(),
        Command::Devices(devices) => devices.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Models(models) => models.run(),
        Command::Quantize(quantize) => quantize.run(),
        Command::Classify(classify) => classify.run(),
        Command::Features(features) => features.run(),
        Command::Logits(logits) => logits.run(),
        Command::Eval(eval) => eval.run(),
        Command::Selftest(selftest) => selftest.run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "peregrine", &mut script);
            std::io::stdout().write_all(&script).map_err(Into::into)
        }
        Command::Man { command } => print_man_page(command.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // The terminal may be closed: ignore a failed write.
            let _ = writeln!(std::io::stderr(), "error: {}", message(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn print_man_page(command: Option<&str>) -> anyhow::Result<()> {
    let mut program = Cli::command().disable_help_subcommand(true);
    // Names its commands' pages `peregrine-run` and the like.
    program.build();
    let of = match command {
        None => &program,
        Some(name) => program
            .find_subcommand(name)
            .ok_or_else(|| exit::usage_error(format!("{name} is not a command: see peregrine --help")))?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(of.clone()).render(&mut page)?;
    Ok(std::io::stdout().write_all(&page)?)
}

/// Silences libwayland on machines without a desktop, in containers and over ssh: Mesa's drivers ask it for a display, and it
/// prints an error if `XDG_RUNTIME_DIR` is not a folder. peregrine needs no display.
fn quiet_drivers() {
    #[cfg(all(unix, not(target_vendor = "apple")))]
    if std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|dir| !std::path::Path::new(&dir).is_absolute()) {
        // SAFETY: the first statement of the program: no other thread exists that could read the environment.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", "/nonexistent") };
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn help_lists_every_weight_format() {
        let mut command = super::Cli::command();
        command.build();
        for name in ["run", "chat", "bench", "quantize"] {
            let help = command.find_subcommand_mut(name).expect("a subcommand").render_long_help().to_string();
            let words: Vec<&str> = help.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            for format in peregrine::format::WeightFormat::ALL {
                assert!(words.contains(&format.name()), "{name} --help does not list {}", format.name());
            }
        }
    }
}
