//! How tokens are chosen and when an answer ends, by the command line; the names are llama.cpp's.

use clap::Args;
use peregrine::runtime::{AnswerOptions, Checkpoint, Sampling, SamplingDefaults};

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
    /// Seed; -1 takes a new one each time and prints it
    #[arg(short, long, value_name = "SEED", default_value_t = -1, allow_negative_numbers = true)]
    seed: i64,
    /// Divide the logits of recent tokens by this; 1 does nothing
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    repeat_penalty: Option<f32>,
    /// Tokens that count as recent; 0: none, -1: as many as can be, 4096
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true)]
    repeat_last_n: i64,
    /// Take this off the logit of each recent token
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Take this off the logit of a recent token for each time it stands there
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// Add to a token's logit: ID+X or ID-X, ID-inf bans it; may be given more than once
    #[arg(short, long, value_name = "ID+X", allow_hyphen_values = true)]
    logit_bias: Vec<String>,
    /// Go on where the model would end
    #[arg(long)]
    ignore_eos: bool,
    /// Text that ends the answer and is not part of it; may be given more than once
    #[arg(short, long = "reverse-prompt", alias = "stop", value_name = "TEXT", allow_hyphen_values = true)]
    reverse_prompt: Vec<String>,
}

impl SamplingArgs {
    /// The command line's values over the model's over llama.cpp's; says the seed where one is drawn.
    pub fn resolve(&self, checkpoint: &Checkpoint) -> anyhow::Result<(Sampling, AnswerOptions)> {
        let model = checkpoint.defaults();
        let seed = u64::try_from(self.seed).unwrap_or_else(|_| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            (now.as_nanos() as u64 ^ u64::from(std::process::id())) & 0xffff_ffff
        });
        let asked = SamplingDefaults {
            temperature: self.temp,
            top_k: self.top_k.map(|k| u32::try_from(k.max(0)).unwrap_or(u32::MAX)),
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            max_tokens: None,
        };
        let mut logit_bias = self.logit_bias.iter().map(|text| parse_bias(text)).collect::<anyhow::Result<Vec<_>>>()?;
        if self.ignore_eos {
            logit_bias.extend(checkpoint.eos().iter().map(|id| (*id, f32::NEG_INFINITY)));
        }
        let sampling = Sampling {
            repeat_last_n: usize::try_from(self.repeat_last_n).unwrap_or(4096),
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias,
            ..asked.over(model, seed)
        };
        if sampling.temperature > 0.0 && self.seed < 0 {
            eprintln!("seed {seed}");
        }
        let max_tokens = match self.predict {
            None => model.max_tokens,
            Some(n) => usize::try_from(n).ok(),
        };
        Ok((sampling, AnswerOptions { max_tokens, stop: self.reverse_prompt.clone(), logprobs: None }))
    }
}

/// `15043+1.5`, `15043-1`, `15043-inf`.
fn parse_bias(text: &str) -> anyhow::Result<(u32, f32)> {
    let parsed = text.find(['+', '-']).and_then(|at| {
        let bias = if &text[at..] == "-inf" { Some(f32::NEG_INFINITY) } else { text[at..].parse().ok() };
        Some((text[..at].parse().ok()?, bias?))
    });
    parsed.ok_or_else(|| anyhow::anyhow!("--logit-bias {text:?} is not of the form ID+X, ID-X or ID-inf"))
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
