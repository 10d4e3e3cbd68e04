//! Sampling parameters, and the order in which defaults apply.

use crate::error::{Error, Result};
use crate::kernels::select::{SamplingParams, WINDOW};

/// How the next token is chosen: logit biases, penalties, top-k, top-p and min-p, temperature, then one draw that depends on
/// seed and position alone.
///
/// ```
/// # use peregrine::Sampling;
/// let sampling = Sampling::GREEDY.temperature(0.8).top_p(0.95).seed(7);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Keeps the k most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps the most probable tokens until their sum reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this fraction as probable as the best; 0 keeps all.
    pub min_p: f32,
    /// Seed of the draws.
    pub seed: u64,
    /// Divides the positive logits of recent tokens and multiplies the negative ones; 1 does nothing.
    pub repeat_penalty: f32,
    /// Subtracted from the logit of each recent token; 0 does nothing.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a recent token once per occurrence; 0 does nothing.
    pub frequency_penalty: f32,
    /// Number of last tokens, of prompt and answer, that penalties look at: at most 4096; 0 turns penalties off.
    pub repeat_last_n: usize,
    /// Added to the logits of these token ids first; -inf bans a token.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Sampling {
    /// Largest [`Sampling::repeat_last_n`].
    pub const MOST_RECENT: usize = WINDOW;

    /// Always the most probable token; penalties off.
    pub const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed: 0,
        repeat_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        repeat_last_n: 64,
        logit_bias: Vec::new(),
    };

    /// Sets [`Sampling::temperature`].
    pub fn temperature(self, temperature: f32) -> Self {
        Sampling { temperature, ..self }
    }

    /// Sets [`Sampling::top_k`].
    pub fn top_k(self, top_k: u32) -> Self {
        Sampling { top_k, ..self }
    }

    /// Sets [`Sampling::top_p`].
    pub fn top_p(self, top_p: f32) -> Self {
        Sampling { top_p, ..self }
    }

    /// Sets [`Sampling::min_p`].
    pub fn min_p(self, min_p: f32) -> Self {
        Sampling { min_p, ..self }
    }

    /// Sets [`Sampling::seed`].
    pub fn seed(self, seed: u64) -> Self {
        Sampling { seed, ..self }
    }

    /// Sets [`Sampling::repeat_penalty`].
    pub fn repeat_penalty(self, repeat_penalty: f32) -> Self {
        Sampling { repeat_penalty, ..self }
    }

    /// Sets [`Sampling::presence_penalty`].
    pub fn presence_penalty(self, presence_penalty: f32) -> Self {
        Sampling { presence_penalty, ..self }
    }

    /// Sets [`Sampling::frequency_penalty`].
    pub fn frequency_penalty(self, frequency_penalty: f32) -> Self {
        Sampling { frequency_penalty, ..self }
    }

    /// Sets [`Sampling::repeat_last_n`].
    pub fn repeat_last_n(self, repeat_last_n: usize) -> Self {
        Sampling { repeat_last_n, ..self }
    }

    /// Sets [`Sampling::logit_bias`].
    pub fn logit_bias(self, logit_bias: Vec<(u32, f32)>) -> Self {
        Sampling { logit_bias, ..self }
    }

    /// Tokens that penalties look at; 0 if they do nothing.
    pub(super) fn window(&self) -> usize {
        let idle = self.repeat_penalty == 1.0 && self.presence_penalty == 0.0 && self.frequency_penalty == 0.0;
        if idle { 0 } else { self.repeat_last_n }
    }

    /// The parameters as the device takes them, without the biases. [`Error::BadSetting`] names a value out of range.
    pub fn rules(&self, vocab: usize) -> Result<SamplingParams> {
        let within = |name, value: &dyn std::fmt::Display, ok: bool, problem| {
            if ok { Ok(()) } else { Err(Error::BadSetting { name, value: value.to_string(), problem }) }
        };
        let t = self.temperature;
        within("temperature", &t, t.is_finite() && t >= 0.0, "it must be 0 (greedy) or above")?;
        within("top_p", &self.top_p, (0.0..=1.0).contains(&self.top_p), "it must be from 0 to 1")?;
        within("min_p", &self.min_p, (0.0..=1.0).contains(&self.min_p), "it must be from 0 to 1")?;
        let repeat = self.repeat_penalty;
        within("repeat_penalty", &repeat, repeat.is_finite() && repeat > 0.0, "it must be above 0; 1 does nothing")?;
        for (name, penalty) in
            [("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)]
        {
            within(name, &penalty, penalty.is_finite(), "it must be a number")?;
        }
        within("repeat_last_n", &self.repeat_last_n, self.repeat_last_n <= WINDOW, "it must be from 0 to 4096")?;
        for (id, bias) in &self.logit_bias {
            within("logit_bias", id, (*id as usize) < vocab, "the model has no such token id")?;
            within("logit_bias", bias, !bias.is_nan() && *bias < f32::INFINITY, "it must be a number, or -inf to ban")?;
        }
        Ok(SamplingParams {
            // At lower temperatures exp() gives 1 for the best token and 0 for all others: greedy.
            temperature: if t < 1e-4 { 0.0 } else { t },
            top_k: self.top_k,
            top_p: self.top_p,
            log_min_p: self.min_p.ln(),
            seed_low: self.seed as u32,
            seed_high: (self.seed >> 32) as u32,
            repeat_penalty: repeat,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            window: u32::try_from(self.window()).expect("it is at most 4096"),
            unused_a: 0,
            unused_b: 0,
        })
    }
}

/// Sampling parameters from one source (a model, a command line), each of which may be missing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SamplingDefaults {
    /// See [`Sampling::temperature`].
    pub temperature: Option<f32>,
    /// See [`Sampling::top_k`].
    pub top_k: Option<u32>,
    /// See [`Sampling::top_p`].
    pub top_p: Option<f32>,
    /// See [`Sampling::min_p`].
    pub min_p: Option<f32>,
    /// See [`Sampling::repeat_penalty`].
    pub repeat_penalty: Option<f32>,
    /// Maximum number of tokens.
    pub max_tokens: Option<usize>,
}

impl SamplingDefaults {
    /// These values, else those of `below`, else llama.cpp's: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05.
    pub fn over(&self, below: &SamplingDefaults, seed: u64) -> Sampling {
        // Whoever sets top-k, top-p or min-p wants sampling, even of a model that is greedy by default.
        let asked = self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        let inherited = below.temperature.filter(|t| !(asked && *t == 0.0));
        Sampling {
            temperature: self.temperature.or(inherited).unwrap_or(0.8),
            top_k: self.top_k.or(below.top_k).unwrap_or(40),
            top_p: self.top_p.or(below.top_p).unwrap_or(0.95),
            min_p: self.min_p.or(below.min_p).unwrap_or(0.05),
            repeat_penalty: self.repeat_penalty.or(below.repeat_penalty).unwrap_or(1.0),
            seed,
            ..Sampling::GREEDY
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_goes_over_the_model_goes_over_the_defaults() {
        let model = SamplingDefaults { top_k: Some(7), temperature: Some(0.3), ..Default::default() };
        let asked = SamplingDefaults { top_p: Some(0.5), ..Default::default() };
        let s = asked.over(&model, 9);
        assert_eq!((s.temperature, s.top_k, s.top_p, s.min_p, s.seed), (0.3, 7, 0.5, 0.05, 9));
        let greedy = SamplingDefaults { temperature: Some(0.0), ..Default::default() };
        assert_eq!(SamplingDefaults::default().over(&greedy, 0).temperature, 0.0);
        assert_eq!(asked.over(&greedy, 0).temperature, 0.8);
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        for bad in [
            Sampling { temperature: -1.0, ..Sampling::GREEDY },
            Sampling { temperature: f32::NAN, ..Sampling::GREEDY },
            Sampling { top_p: 1.5, ..Sampling::GREEDY },
            Sampling { min_p: -0.1, ..Sampling::GREEDY },
            Sampling { repeat_penalty: 0.0, ..Sampling::GREEDY },
            Sampling { presence_penalty: f32::NAN, ..Sampling::GREEDY },
            Sampling { repeat_last_n: 4097, ..Sampling::GREEDY },
            Sampling { logit_bias: vec![(10, 1.0)], ..Sampling::GREEDY },
            Sampling { logit_bias: vec![(3, f32::INFINITY)], ..Sampling::GREEDY },
            Sampling { logit_bias: vec![(3, f32::NAN)], ..Sampling::GREEDY },
        ] {
            assert!(matches!(bad.rules(10), Err(Error::BadSetting { .. })), "{bad:?}");
        }
    }
}
