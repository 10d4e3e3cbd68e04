//! llama.cpp's flags that peregrine does not need: each is accepted or rejected with a line that says why.

use super::exit::usage_error;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::ffi::OsString;

/// Spellings of llama.cpp that clap cannot parse: several letters after one dash.
const SPELLINGS: &[(&str, &str)] = &[
    ("-cb", "--cont-batching"),
    ("-cnv", "--conversation"),
    ("-co", "--color"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-dev", "--device"),
    ("-fa", "--flash-attn"),
    ("-hf", "--hf-repo"),
    ("-hff", "--hf-file"),
    ("-hfr", "--hf-repo"),
    ("-hft", "--hf-token"),
    ("-if", "--interactive-first"),
    ("-jf", "--json-schema-file"),
    ("-md", "--model-draft"),
    ("-mg", "--main-gpu"),
    ("-mmp", "--mmap"),
    ("-mu", "--model-url"),
    ("-ngl", "--n-gpu-layers"),
    ("-nkvo", "--no-kv-offload"),
    ("-no-cnv", "--no-conversation"),
    ("-np", "--parallel"),
    ("-sm", "--split-mode"),
    ("-st", "--single-turn"),
    ("-sys", "--system-prompt"),
    ("-tb", "--threads-batch"),
    ("-ts", "--tensor-split"),
    ("-ub", "--ubatch-size"),
];

/// Flags whose value is a text, which may begin with a dash.
const TEXTS: &[&str] = &[
    "-p",
    "--prompt",
    "-r",
    "--reverse-prompt",
    "--stop",
    "-sys",
    "--system-prompt",
    "-l",
    "--logit-bias",
    "--grammar",
    "--regex",
];

/// The command line with [`SPELLINGS`] replaced by their long forms.
pub fn expand_spellings(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut before = OsString::new();
    arguments.map(move |argument| {
        let is_text = TEXTS.iter().any(|flag| before == *flag);
        let spelling = SPELLINGS.iter().find(|(short, _)| !is_text && argument == *short);
        // The value of a text flag is not a flag.
        before = if is_text { OsString::new() } else { argument.clone() };
        spelling.map_or(argument, |(_, long)| (*long).into())
    })
}

/// A flag of llama.cpp.
struct LlamaFlag {
    /// Long names; the first is clap's id.
    names: &'static [&'static str],
    short: Option<char>,
    takes: Takes,
    handling: Handling,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
    MaybeValue,
}

#[derive(Clone, Copy)]
enum Handling {
    /// Accepted silently: peregrine always behaves this way.
    NoOp,
    /// Accepted with a line that says why it is not needed.
    Unneeded(&'static str),
    /// Rejected with a reason, unless its value is one of these, which turn it off.
    Rejected(&'static str, &'static [&'static str]),
}

use Handling::{NoOp, Rejected, Unneeded};
use Takes::{MaybeValue, Nothing, Value};

const fn flag(names: &'static [&'static str], takes: Takes, handling: Handling) -> LlamaFlag {
    LlamaFlag { names, short: None, takes, handling }
}

const LAYERS: &str = "all layers run on the device; a model that does not fit is an error that lists formats that do (see peregrine inspect)";
const CONTEXT: &str = "the recurrent state has a fixed size, so there is no context size to set";
const THREADS: &str = "the model runs on the device; the host uses as many threads as it needs";
const BATCH: &str = "a prompt is read in chunks of --chunk tokens, which is llama.cpp's -ub";
const CACHE: &str = "there is no KV cache: the state is f32 and small";
const MAPPED: &str = "weights are memory-mapped and uploaded once";
const ONE_DEVICE: &str = "the model runs on one device; --device selects it";
const ATTENTION: &str = "these models have no attention";
const ADDRESS: &str = "models come from the Hugging Face hub by name: -hf user/repo:file.gguf";
const TOKEN: &str = "other users of the machine see command lines: set HF_TOKEN to the token, or run hf auth login";
const CHAT: &str = "use peregrine chat for conversations";
const SAMPLER: &str = "this sampler is not supported; supported are temperature, top-k, top-p, min-p and penalties";
const OTHER_WEIGHTS: &str = "LoRA adapters, projectors and draft models are not supported";

const FLAGS: &[LlamaFlag] = &[
    flag(&["n-gpu-layers", "gpu-layers"], Value, Unneeded(LAYERS)),
    LlamaFlag { short: Some('c'), ..flag(&["ctx-size"], Value, Unneeded(CONTEXT)) },
    LlamaFlag { short: Some('t'), ..flag(&["threads"], Value, Unneeded(THREADS)) },
    LlamaFlag { short: Some('b'), ..flag(&["batch-size"], Value, Unneeded(BATCH)) },
    flag(&["threads-batch"], Value, Unneeded(THREADS)),
    flag(&["keep"], Value, Unneeded(CONTEXT)),
    flag(&["cache-type-k"], Value, Unneeded(CACHE)),
    flag(&["cache-type-v"], Value, Unneeded(CACHE)),
    flag(&["no-kv-offload"], Nothing, Unneeded(CACHE)),
    flag(&["mlock"], Nothing, Unneeded(MAPPED)),
    flag(&["no-mmap"], Nothing, Unneeded(MAPPED)),
    flag(&["mmap"], MaybeValue, Unneeded(MAPPED)),
    flag(&["numa"], Value, Unneeded(THREADS)),
    flag(&["split-mode"], Value, Unneeded(ONE_DEVICE)),
    flag(&["tensor-split"], Value, Unneeded(ONE_DEVICE)),
    flag(&["main-gpu"], Value, Unneeded(ONE_DEVICE)),
    flag(&["flash-attn"], MaybeValue, Unneeded(ATTENTION)),
    flag(&["rope-scaling"], Value, Unneeded(ATTENTION)),
    flag(&["rope-freq-base"], Value, Unneeded(ATTENTION)),
    flag(&["rope-freq-scale"], Value, Unneeded(ATTENTION)),
    flag(&["context-shift"], Nothing, Unneeded(CONTEXT)),
    flag(&["no-context-shift"], Nothing, NoOp),
    flag(&["cont-batching"], Nothing, NoOp),
    flag(&["color"], MaybeValue, NoOp),
    flag(&["jinja"], Nothing, NoOp),
    flag(&["log-disable"], Nothing, NoOp),
    flag(&["no-display-prompt"], Nothing, NoOp),
    flag(&["no-perf"], Nothing, NoOp),
    flag(&["no-warmup"], Nothing, NoOp),
    flag(&["warmup"], Nothing, NoOp),
    flag(&["simple-io"], Nothing, NoOp),
    flag(&["single-turn"], Nothing, NoOp),
    flag(&["interactive"], Nothing, Rejected(CHAT, &[])),
    flag(&["interactive-first"], Nothing, Rejected(CHAT, &[])),
    flag(&["hf-token"], Value, Rejected(TOKEN, &[])),
    flag(&["model-url"], Value, Rejected(ADDRESS, &[])),
    flag(
        &["prompt-cache"],
        Value,
        Rejected(
            "use --save-state FILE to save the state after a prompt and --load-state FILE to continue from it",
            &[],
        ),
    ),
    flag(&["mirostat"], Value, Rejected(SAMPLER, &["0"])),
    flag(&["typical"], Value, Rejected(SAMPLER, &["1", "1.0"])),
    flag(&["xtc-probability"], Value, Rejected(SAMPLER, &["0", "0.0"])),
    flag(&["dry-multiplier"], Value, Rejected(SAMPLER, &["0", "0.0"])),
    flag(&["dynatemp-range"], Value, Rejected(SAMPLER, &["0", "0.0"])),
    flag(&["top-nsigma", "top-n-sigma"], Value, Rejected(SAMPLER, &["-1", "-1.0"])),
    flag(&["samplers"], Value, Rejected(SAMPLER, &[])),
    flag(&["sampling-seq", "sampler-seq"], Value, Rejected(SAMPLER, &[])),
    flag(&["lora"], Value, Rejected(OTHER_WEIGHTS, &[])),
    flag(&["mmproj"], Value, Rejected(OTHER_WEIGHTS, &[])),
    flag(&["model-draft"], Value, Rejected(OTHER_WEIGHTS, &[])),
];

/// The flags that were given.
pub struct LlamaFlags {
    /// A line for each that is not needed.
    unneeded: Vec<String>,
    /// The reason why one is rejected.
    rejected: Option<String>,
}

impl LlamaFlags {
    /// Prints a line for each unneeded flag. A flag that would change the output is an error.
    pub fn report(&self) -> anyhow::Result<()> {
        if let Some(rejected) = &self.rejected {
            return Err(usage_error(rejected));
        }
        self.unneeded.iter().for_each(|line| eprintln!("{line}"));
        Ok(())
    }
}

impl LlamaFlag {
    fn id(&self) -> &'static str {
        self.names[0]
    }

    /// The spelling for messages: the shortest one.
    fn shown(&self) -> String {
        let spelling = SPELLINGS.iter().find(|(_, long)| long[2..] == *self.id());
        match (self.short, spelling) {
            (Some(short), _) => format!("-{short}"),
            (None, Some((short, _))) => (*short).to_owned(),
            (None, None) => format!("--{}", self.id()),
        }
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.id()).long(self.id()).aliases(&self.names[1..]).hide(true);
        let arg = self.short.map_or(arg.clone(), |short| arg.short(short));
        match self.takes {
            Nothing => arg.action(ArgAction::Count),
            Value => arg.action(ArgAction::Append).allow_hyphen_values(true),
            MaybeValue => arg.action(ArgAction::Append).num_args(0..=1).default_missing_value(""),
        }
    }

    /// The values that were given; an empty string for each use of a flag without a value.
    fn given(&self, matches: &ArgMatches) -> Vec<String> {
        // A command may define the flag itself; then clap does not know it by this id.
        let count = matches.try_get_one::<u8>(self.id()).ok().flatten().copied().unwrap_or(0);
        match self.takes {
            Nothing => vec![String::new(); usize::from(count)],
            _ => matches.try_get_many::<String>(self.id()).ok().flatten().into_iter().flatten().cloned().collect(),
        }
    }
}

impl FromArgMatches for LlamaFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut llama_flags = LlamaFlags { unneeded: vec![], rejected: None };
        llama_flags.update_from_arg_matches(matches).map(|()| llama_flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for flag in FLAGS {
            let Some(value) = flag.given(matches).pop() else { continue };
            match flag.handling {
                NoOp => {}
                Unneeded(why) => self.unneeded.push(format!("{}: not needed: {why}", flag.shown())),
                Rejected(_, off) if off.contains(&value.as_str()) => {}
                Rejected(why, _) => self.rejected = Some(format!("{}: {why}", flag.shown())),
            }
        }
        Ok(())
    }
}

impl Args for LlamaFlags {
    fn augment_args(command: Command) -> Command {
        let own: Vec<String> = command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
        let others = FLAGS.iter().filter(|flag| !own.iter().any(|own| own == flag.id()));
        command.args(others.map(LlamaFlag::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> LlamaFlags {
        let all = ["p"].iter().chain(arguments).map(OsString::from);
        let matches = LlamaFlags::augment_args(Command::new("p")).get_matches_from(expand_spellings(all));
        LlamaFlags::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn unneeded_flags_are_accepted_with_a_line_or_silently() {
        let typed =
            "-ngl 99 -c 4096 -t 8 -b 512 --mlock --no-mmap -fa -fa on --keep -1 --no-display-prompt --mirostat 0";
        let llama_flags = parsed(&typed.split(' ').collect::<Vec<_>>());
        let flags: Vec<&str> = llama_flags.unneeded.iter().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(flags, ["-ngl", "-c", "-t", "-b", "--keep", "--mlock", "--no-mmap", "-fa"]);
        assert_eq!((llama_flags.rejected, parsed(&["-ngl", "all", "--jinja"]).unneeded.len()), (None, 1));
    }

    #[test]
    fn flags_that_would_change_the_output_are_rejected_with_a_line() {
        for (typed, said) in [
            (&["--mirostat", "2"][..], "--mirostat: this sampler"),
            (&["-mu", "https://x/y.gguf"], "-mu: models come from"),
            (&["--prompt-cache", "x"], "--save-state"),
            (&["--interactive"], "peregrine chat"),
        ] {
            let error = parsed(typed).report().unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn a_text_that_looks_like_a_flag_stays_a_text() {
        let typed = ["run", "-p", "-ngl", "-ngl", "1", "-r", "-p", "-fa"];
        let spelled: Vec<OsString> = expand_spellings(typed.iter().map(OsString::from)).collect();
        assert_eq!(spelled, ["run", "-p", "-ngl", "--n-gpu-layers", "1", "-r", "-p", "--flash-attn"]);
    }
}
