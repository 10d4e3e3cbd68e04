//! llama.cpp's flags that have no meaning here: each is taken, or refused, with a line that says what it would mean.

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
    ("-hfr", "--hf-repo"),
    ("-if", "--interactive-first"),
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

/// Flags whose value may begin with a dash.
const TEXTS: &[&str] =
    &["-p", "--prompt", "-r", "--reverse-prompt", "--stop", "-sys", "--system-prompt", "-l", "--logit-bias"];

/// The command line in spellings that clap parses.
pub fn spelled(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut before = OsString::new();
    arguments.map(move |argument| {
        let is_text = TEXTS.iter().any(|flag| before == *flag);
        let spelling = SPELLINGS.iter().find(|(short, _)| !is_text && argument == *short);
        // The value of a flag that takes a text is no flag.
        before = if is_text { OsString::new() } else { argument.clone() };
        spelling.map_or(argument, |(_, long)| (*long).into())
    })
}

/// A flag of llama.cpp.
struct LlamaFlag {
    /// The first is what clap knows it by.
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
    /// It is so anyway.
    NoOp,
    /// It is not needed, and why.
    Unneeded(&'static str),
    /// It is refused, unless its value is one of these, at which it does nothing.
    Refused(&'static str, &'static [&'static str]),
}

use Handling::{NoOp, Refused, Unneeded};
use Takes::{MaybeValue, Nothing, Value};

const fn flag(names: &'static [&'static str], takes: Takes, handling: Handling) -> LlamaFlag {
    LlamaFlag { names, short: None, takes, handling }
}

const LAYERS: &str =
    "all layers run on the device; a model that does not fit is refused with what would (peregrine inspect)";
const CONTEXT: &str = "the state has one size at any length, so there is no context to set";
const THREADS: &str = "the model runs on the device; the host takes what threads it needs";
const BATCH: &str = "a prompt is read by --chunk tokens at a time, which is llama.cpp's -ub";
const CACHE: &str = "there is no cache of keys and values: the state is f32, and small";
const MAPPED: &str = "weights are mapped, and go to the device once";
const ONE_DEVICE: &str = "the model lies on one device; --device chooses it";
const ATTENTION: &str = "these models have no attention";
const DOWNLOAD: &str =
    "nothing is downloaded here: fetch the checkpoint first (hf download REPO --local-dir DIR), then -m DIR";
const CHAT: &str = "peregrine chat is for conversations";
const SAMPLER: &str = "this way of sampling is not supported; there are temperature, top-k, top-p, min-p and penalties";
const GRAMMAR: &str = "answers cannot be held to a grammar here";
const OTHER_WEIGHTS: &str = "only one model's own weights are run";

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
    flag(&["offline"], Nothing, NoOp),
    flag(&["no-warmup"], Nothing, NoOp),
    flag(&["warmup"], Nothing, NoOp),
    flag(&["simple-io"], Nothing, NoOp),
    flag(&["single-turn"], Nothing, NoOp),
    flag(&["interactive"], Nothing, Refused(CHAT, &[])),
    flag(&["interactive-first"], Nothing, Refused(CHAT, &[])),
    flag(&["hf-repo"], Value, Refused(DOWNLOAD, &[])),
    flag(&["model-url"], Value, Refused(DOWNLOAD, &[])),
    flag(
        &["prompt-cache"],
        Value,
        Refused("--save-state FILE keeps what was read, and --load-state FILE goes on with it", &[]),
    ),
    flag(&["mirostat"], Value, Refused(SAMPLER, &["0"])),
    flag(&["typical"], Value, Refused(SAMPLER, &["1", "1.0"])),
    flag(&["xtc-probability"], Value, Refused(SAMPLER, &["0", "0.0"])),
    flag(&["dry-multiplier"], Value, Refused(SAMPLER, &["0", "0.0"])),
    flag(&["dynatemp-range"], Value, Refused(SAMPLER, &["0", "0.0"])),
    flag(&["top-nsigma", "top-n-sigma"], Value, Refused(SAMPLER, &["-1", "-1.0"])),
    flag(&["samplers"], Value, Refused(SAMPLER, &[])),
    flag(&["sampling-seq", "sampler-seq"], Value, Refused(SAMPLER, &[])),
    flag(&["grammar"], Value, Refused(GRAMMAR, &[""])),
    flag(&["grammar-file"], Value, Refused(GRAMMAR, &[])),
    LlamaFlag { short: Some('j'), ..flag(&["json-schema"], Value, Refused(GRAMMAR, &[])) },
    flag(&["lora"], Value, Refused(OTHER_WEIGHTS, &[])),
    flag(&["mmproj"], Value, Refused(OTHER_WEIGHTS, &[])),
    flag(&["model-draft"], Value, Refused(OTHER_WEIGHTS, &[])),
];

/// Those that were given.
pub struct LlamaFlags {
    /// Why those that are not needed are not.
    unneeded: Vec<String>,
    /// Why one cannot be taken.
    refused: Option<String>,
}

impl LlamaFlags {
    /// Says of each in a line why it is not needed. One that would change the answer is an error.
    pub fn report(&self) -> anyhow::Result<()> {
        if let Some(refused) = &self.refused {
            return Err(usage_error(refused));
        }
        self.unneeded.iter().for_each(|line| eprintln!("{line}"));
        Ok(())
    }
}

impl LlamaFlag {
    fn id(&self) -> &'static str {
        self.names[0]
    }

    /// As people type it.
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

    /// The values that it was given; one of no text where it takes none.
    fn given(&self, matches: &ArgMatches) -> Vec<String> {
        // A command that has a flag of this name of its own has taken it.
        let count = matches.try_get_one::<u8>(self.id()).ok().flatten().copied().unwrap_or(0);
        match self.takes {
            Nothing => vec![String::new(); usize::from(count)],
            _ => matches.try_get_many::<String>(self.id()).ok().flatten().into_iter().flatten().cloned().collect(),
        }
    }
}

impl FromArgMatches for LlamaFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut llama_flags = LlamaFlags { unneeded: vec![], refused: None };
        llama_flags.update_from_arg_matches(matches).map(|()| llama_flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for flag in FLAGS {
            let Some(value) = flag.given(matches).pop() else { continue };
            match flag.handling {
                NoOp => {}
                Unneeded(why) => self.unneeded.push(format!("{}: not needed: {why}", flag.shown())),
                Refused(_, idle) if idle.contains(&value.as_str()) => {}
                Refused(why, _) => self.refused = Some(format!("{}: {why}", flag.shown())),
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
        let matches = LlamaFlags::augment_args(Command::new("p")).get_matches_from(spelled(all));
        LlamaFlags::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn what_has_no_meaning_is_taken_with_a_line_or_in_silence() {
        let typed =
            "-ngl 99 -c 4096 -t 8 -b 512 --mlock --no-mmap -fa -fa on --keep -1 --no-display-prompt --mirostat 0";
        let llama_flags = parsed(&typed.split(' ').collect::<Vec<_>>());
        let flags: Vec<&str> = llama_flags.unneeded.iter().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(flags, ["-ngl", "-c", "-t", "-b", "--keep", "--mlock", "--no-mmap", "-fa"]);
        assert_eq!((llama_flags.refused, parsed(&["-ngl", "all", "--jinja"]).unneeded.len()), (None, 1));
    }

    #[test]
    fn what_would_change_the_answer_is_refused_with_a_line() {
        for (typed, said) in [
            (&["--mirostat", "2"][..], "--mirostat: this way of sampling"),
            (&["-hf", "a/b"], "-hf: nothing is downloaded"),
            (&["--prompt-cache", "x"], "--save-state"),
            (&["--grammar", "root ::= x"], "--grammar: answers"),
            (&["--interactive"], "peregrine chat"),
        ] {
            let error = parsed(typed).report().unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn a_text_that_looks_like_a_flag_stays_one() {
        let typed = ["run", "-p", "-ngl", "-ngl", "1", "-r", "-p", "-fa"];
        let spelled: Vec<OsString> = spelled(typed.iter().map(OsString::from)).collect();
        assert_eq!(spelled, ["run", "-p", "-ngl", "--n-gpu-layers", "1", "-r", "-p", "--flash-attn"]);
    }
}
