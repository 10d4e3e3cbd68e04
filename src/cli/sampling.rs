//! Sampling and stopping flags, named as in llama.cpp.

use super::constraint::ConstraintArgs;
use super::escape::EscapeArgs;
use clap::Args;
use peregrine::runtime::{AnswerOptions, Checkpoint, Sampling, SamplingDefaults};

/// The sampler's flags.
#[derive(Args)]
pub struct SamplerArgs {
    /// Temperature; 0 always takes the most probable token [default: the model's, or 0.8]
    #[arg(long, alias = "temperature", value_name = "T", allow_negative_numbers = true)]
    temp: Option<f32>,
    /// Sample from the K most probable tokens; 0 keeps all [default: the model's, or 40]
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    top_k: Option<i64>,
    /// Sample from the most probable tokens with a total probability of P; 1 keeps all [default: the model's, or 0.95]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Drop tokens less probable than P times the best; 0 keeps all [default: the model's, or 0.05]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Penalty on the logits of recent tokens; 1 turns it off [default: the model's, or 1]
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    repeat_penalty: Option<f32>,
    /// Tokens that the penalties look back; 0 for none, -1 for the maximum of 4096 [default: 64]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    repeat_last_n: Option<i64>,
}

impl SamplerArgs {
    /// The flags' clap ids.
    pub const NAMES: [&str; 6] = ["temp", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n"];

    /// Whether any flag is given.
    pub fn is_given(&self) -> bool {
        let SamplerArgs { temp, top_k, top_p, min_p, repeat_penalty, repeat_last_n } = self;
        let numbers = [temp, top_p, min_p, repeat_penalty];
        numbers.iter().any(|number| number.is_some()) || top_k.is_some() || repeat_last_n.is_some()
    }

    /// The sampling: the command line's values, else the model's, else llama.cpp's.
    pub fn over(&self, model: &SamplingDefaults) -> Sampling {
        self.last_n_over(self.asked().over(model, 0))
    }

    /// The command line's values of the settings that a model may define.
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

    /// The command line's values, else those of a continued conversation.
    fn over_saved(&self, was: &Sampling) -> Sampling {
        self.last_n_over(
            was.clone()
                .temperature(self.temp.unwrap_or(was.temperature))
                .top_k(self.top_k().unwrap_or(was.top_k))
                .top_p(self.top_p.unwrap_or(was.top_p))
                .min_p(self.min_p.unwrap_or(was.min_p))
                .repeat_penalty(self.repeat_penalty.unwrap_or(was.repeat_penalty)),
        )
    }

    fn last_n_over(&self, below: Sampling) -> Sampling {
        match self.repeat_last_n {
            Some(n) => below.repeat_last_n(usize::try_from(n).unwrap_or(Sampling::MOST_RECENT)),
            None => below,
        }
    }

    fn top_k(&self) -> Option<u32> {
        self.top_k.map(|k| u32::try_from(k.max(0)).unwrap_or(u32::MAX))
    }
}

#[derive(Args)]
pub struct SamplingArgs {
    /// Maximum tokens to generate; -1 for no limit [default: the model's, or -1]
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
    /// Random seed; -1 draws a new one and prints it [default: -1]
    #[arg(short, long, value_name = "SEED", allow_negative_numbers = true)]
    seed: Option<i64>,
    /// Subtract X from the logit of each recent token [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Subtract X from the logit of a recent token for each occurrence [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Add X to a token's logit: ID+X or ID-X; ID-inf bans the token. Repeatable
    #[arg(short, long, value_name = "ID+X", allow_hyphen_values = true, value_parser = parse_bias)]
    logit_bias: Vec<(u32, f32)>,
    /// Ignore the EOS token and continue generating
    #[arg(long)]
    ignore_eos: bool,
    /// Stop string: ends the answer and is not printed. Repeatable
    #[arg(short, long = "reverse-prompt", alias = "stop", value_name = "TEXT", allow_hyphen_values = true)]
    reverse_prompt: Vec<String>,
    #[command(flatten)]
    constraint: ConstraintArgs,
    #[command(flatten)]
    pub escape: EscapeArgs,
}

impl SamplingArgs {
    /// The sampling and stop options: the command line's values, else the model's, else llama.cpp's. Prints a drawn seed.
    pub fn resolve(&self, checkpoint: &Checkpoint) -> anyhow::Result<(Sampling, AnswerOptions)> {
        let seed = self.seed.unwrap_or(-1);
        // The model's values are checked here, and only those that are used.
        checkpoint.sampling(&SamplingDefaults { max_tokens: self.predict.map(|_| 0), ..self.choice.asked() }, 0)?;
        self.over(checkpoint, self.choice.over(checkpoint.defaults()), Some(seed))
    }

    /// The sampling and stop options: the command line's values, else those of a continued conversation.
    pub fn resolve_over(&self, checkpoint: &Checkpoint, was: &Sampling) -> anyhow::Result<(Sampling, AnswerOptions)> {
        self.over(checkpoint, self.choice.over_saved(was), self.seed)
    }

    /// Applies the other flags to `below`. A negative seed draws a random one.
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
        let mut sampling = below.logit_bias(logit_bias);
        sampling.seed = given.unwrap_or(sampling.seed);
        sampling.presence_penalty = self.presence_penalty.unwrap_or(sampling.presence_penalty);
        sampling.frequency_penalty = self.frequency_penalty.unwrap_or(sampling.frequency_penalty);
        if sampling.temperature > 0.0 && seed.is_some_and(|seed| seed < 0) {
            eprintln!("seed {}", sampling.seed);
        }
        let max_tokens = match self.predict {
            None => checkpoint.defaults().max_tokens,
            Some(n) => usize::try_from(n).ok(),
        };
        let stop = self.reverse_prompt.iter().map(|stop| self.escape.apply("-r", stop));
        let stop = stop.collect::<anyhow::Result<Vec<_>>>()?;
        let grammar = self.constraint.grammar(checkpoint)?;
        Ok((sampling, AnswerOptions::default().max_tokens(max_tokens).stop(stop).grammar(grammar)))
    }
}

/// A random seed below 2^32, short enough to type.
fn random_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos() as u64 ^ u64::from(std::process::id())) & 0xffff_ffff
}

/// Parses `15043+1.5`, `15043-1` or `15043-inf`. NaN and +inf are errors.
fn parse_bias(text: &str) -> Result<(u32, f32), String> {
    let parsed = text.find(['+', '-']).and_then(|at| {
        let bias: f32 = text[at..].parse().ok().filter(|bias: &f32| *bias < f32::INFINITY)?;
        Some((text[..at].parse().ok()?, bias))
    });
    parsed.ok_or_else(|| "expected ID+X, ID-X or ID-inf".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse_bias;

    #[test]
    fn a_bias_is_parsed_or_rejected() {
        assert_eq!(parse_bias("15043+1.5").unwrap(), (15043, 1.5));
        assert_eq!(parse_bias("7-1").unwrap(), (7, -1.0));
        assert_eq!(parse_bias("7-inf").unwrap(), (7, f32::NEG_INFINITY));
        for bad in ["", "7", "+1", "x+1", "7+x", "-1+2", "7+nan", "7-nan", "7+NaN", "7+inf"] {
            assert!(parse_bias(bad).is_err(), "{bad:?}");
        }
    }
}
