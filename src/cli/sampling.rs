//! How tokens are chosen and when an answer ends, by the command line; the names are llama.cpp's.

use super::escape::EscapeArgs;
use clap::Args;
use peregrine::runtime::{AnswerOptions, Checkpoint, Sampling, SamplingDefaults};

/// How the next token is chosen.
#[derive(Args)]
pub struct SamplerArgs {
    /// Temperature; 0 always takes the most probable token
    #[arg(long, alias = "temperature", value_name = "T", allow_negative_numbers = true)]
    temp: Option<f32>,
    /// Keep the K most probable tokens; 0 keeps all
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    top_k: Option<i64>,
    /// Keep the most probable tokens up to this probability together; 1 keeps all
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Keep tokens at least this probable, compared with the best; 0 keeps all
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Divide the logits of recent tokens by this; 1 does nothing
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    repeat_penalty: Option<f32>,
    /// Tokens that count as recent, 64 without it; 0: none, -1: as many as can be, 4096
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    repeat_last_n: Option<i64>,
}

impl SamplerArgs {
    /// Names of the flags, as clap has them.
    pub const NAMES: [&str; 6] = ["temp", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n"];

    /// Whether any of them is given.
    pub fn is_given(&self) -> bool {
        let SamplerArgs { temp, top_k, top_p, min_p, repeat_penalty, repeat_last_n } = self;
        let numbers = [temp, top_p, min_p, repeat_penalty];
        numbers.iter().any(|number| number.is_some()) || top_k.is_some() || repeat_last_n.is_some()
    }

    /// The command line's values over the model's over llama.cpp's.
    pub fn over(&self, model: &SamplingDefaults) -> Sampling {
        self.last_n_over(self.asked().over(model, 0))
    }

    /// The values of the command line that a model may have others of.
    pub fn asked(&self) -> SamplingDefaults {
        SamplingDefaults {
            temperature: self.temp,
            top_k: self.top_k(),
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            max_tokens: None,
        }
    }

    /// The command line's values over those of a conversation that goes on.
    fn over_those(&self, was: &Sampling) -> Sampling {
        self.last_n_over(Sampling {
            temperature: self.temp.unwrap_or(was.temperature),
            top_k: self.top_k().unwrap_or(was.top_k),
            top_p: self.top_p.unwrap_or(was.top_p),
            min_p: self.min_p.unwrap_or(was.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(was.repeat_penalty),
            ..was.clone()
        })
    }

    fn last_n_over(&self, below: Sampling) -> Sampling {
        let last_n = self.repeat_last_n.map(|n| usize::try_from(n).unwrap_or(4096));
        Sampling { repeat_last_n: last_n.unwrap_or(below.repeat_last_n), ..below }
    }

    fn top_k(&self) -> Option<u32> {
        self.top_k.map(|k| u32::try_from(k.max(0)).unwrap_or(u32::MAX))
    }
}

#[derive(Args)]
pub struct SamplingArgs {
    /// Tokens to generate at most; -1: until the model ends
    #[arg(
        short = 'n',
        long = "predict",
        alias = "n-predict",
        alias = "max-tokens",
        value_name = "N",
        allow_negative_numbers = true
    )]
    predict: Option<i64>,
    #[command(flatten)]
    choice: SamplerArgs,
    /// Seed; -1, and none, take a new one each time and print it
    #[arg(short, long, value_name = "SEED", allow_negative_numbers = true)]
    seed: Option<i64>,
    /// Take this off the logit of each recent token
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Take this off the logit of a recent token for each time it stands there
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Add to a token's logit: ID+X or ID-X, ID-inf bans it; may be given more than once
    #[arg(short, long, value_name = "ID+X", allow_hyphen_values = true, value_parser = parse_bias)]
    logit_bias: Vec<(u32, f32)>,
    /// Go on where the model would end
    #[arg(long)]
    ignore_eos: bool,
    /// Text that ends the answer and is not part of it; may be given more than once
    #[arg(short, long = "reverse-prompt", alias = "stop", value_name = "TEXT", allow_hyphen_values = true)]
    reverse_prompt: Vec<String>,
    #[command(flatten)]
    pub escape: EscapeArgs,
}

impl SamplingArgs {
    /// The command line's values over the model's over llama.cpp's; says the seed where one is drawn.
    pub fn resolve(&self, checkpoint: &Checkpoint) -> anyhow::Result<(Sampling, AnswerOptions)> {
        let seed = self.seed.unwrap_or(-1);
        // Here, where it is known what the model's own values are needed for.
        checkpoint.sampling(&SamplingDefaults { max_tokens: self.predict.map(|_| 0), ..self.choice.asked() }, 0)?;
        self.over(checkpoint, self.choice.over(checkpoint.defaults()), Some(seed))
    }

    /// The command line's values over those of a conversation that goes on.
    pub fn resolve_over(&self, checkpoint: &Checkpoint, was: &Sampling) -> anyhow::Result<(Sampling, AnswerOptions)> {
        self.over(checkpoint, self.choice.over_those(was), self.seed)
    }

    /// What else the command line says, over `below`; a negative seed is one to be drawn.
    fn over(
        &self,
        checkpoint: &Checkpoint,
        below: Sampling,
        seed: Option<i64>,
    ) -> anyhow::Result<(Sampling, AnswerOptions)> {
        let given = seed.map(|seed| u64::try_from(seed).unwrap_or_else(|_| random_seed()));
        let mut logit_bias = self.logit_bias.clone();
        if logit_bias.is_empty() {
            logit_bias.clone_from(&below.logit_bias);
        }
        if self.ignore_eos {
            logit_bias.retain(|(id, _)| !checkpoint.eos().contains(id));
            logit_bias.extend(checkpoint.eos().iter().map(|id| (*id, f32::NEG_INFINITY)));
        }
        let sampling = Sampling {
            seed: given.unwrap_or(below.seed),
            presence_penalty: self.presence_penalty.unwrap_or(below.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(below.frequency_penalty),
            logit_bias,
            ..below
        };
        if sampling.temperature > 0.0 && seed.is_some_and(|seed| seed < 0) {
            eprintln!("seed {}", sampling.seed);
        }
        let max_tokens = match self.predict {
            None => checkpoint.defaults().max_tokens,
            Some(n) => usize::try_from(n).ok(),
        };
        let stop = self.reverse_prompt.iter().map(|stop| self.escape.apply("-r", stop));
        let stop = stop.collect::<anyhow::Result<_>>()?;
        Ok((sampling, AnswerOptions { max_tokens, stop, ..AnswerOptions::default() }))
    }
}

/// A seed that is short enough to be typed.
fn random_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos() as u64 ^ u64::from(std::process::id())) & 0xffff_ffff
}

/// `15043+1.5`, `15043-1`, `15043-inf`.
fn parse_bias(text: &str) -> Result<(u32, f32), String> {
    let parsed = text.find(['+', '-']).and_then(|at| {
        let bias = if &text[at..] == "-inf" { Some(f32::NEG_INFINITY) } else { text[at..].parse().ok() };
        Some((text[..at].parse().ok()?, bias?))
    });
    parsed.ok_or_else(|| "it is not of the form ID+X, ID-X or ID-inf".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse_bias;

    #[test]
    fn a_bias_is_read_or_refused() {
        assert_eq!(parse_bias("15043+1.5").unwrap(), (15043, 1.5));
        assert_eq!(parse_bias("7-1").unwrap(), (7, -1.0));
        assert_eq!(parse_bias("7-inf").unwrap(), (7, f32::NEG_INFINITY));
        for bad in ["", "7", "+1", "x+1", "7+x", "-1+2"] {
            assert!(parse_bias(bad).is_err(), "{bad:?}");
        }
    }
}
