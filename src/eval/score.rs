//! Losses, divergences and their statistics, in f64 and nats.

/// Log-probabilities of all tokens at one position.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction(Vec<f64>);

impl Prediction {
    /// The log-softmax of logits `[V]`; `None` if they are empty or not finite.
    pub fn of(logits: &[f32]) -> Option<Self> {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if logits.iter().any(|logit| !logit.is_finite()) || logits.is_empty() {
            return None;
        }
        let above: Vec<f64> = logits.iter().map(|logit| f64::from(*logit) - f64::from(most)).collect();
        let total = above.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        Some(Prediction(above.into_iter().map(|logit| logit - total).collect()))
    }

    /// The loss of a token: -ln p.
    pub fn loss(&self, id: u32) -> f64 {
        -self.0[id as usize]
    }

    /// The most probable token; the first of equally probable ones.
    pub fn best(&self) -> usize {
        let first = |best: usize, id: usize| if self.0[id] > self.0[best] { id } else { best };
        (0..self.0.len()).fold(0, first)
    }

    /// The divergence KL(reference ‖ self).
    pub fn divergence_from(&self, reference: &Prediction) -> f64 {
        // A token with p = 0 in the reference contributes nothing.
        let terms = reference.0.iter().zip(&self.0).map(|(p, q)| p.exp() * (p - q));
        terms.sum()
    }
}

/// A mean over tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Its standard error, assuming independent tokens.
    pub error: f64,
}

impl Mean {
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let value = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - value).powi(2)).sum();
        Mean { value, error: if values.len() > 1 { (squares / (n - 1.0) / n).sqrt() } else { f64::INFINITY } }
    }

    /// `exp` of the mean, with first-order error propagation.
    fn exp(self) -> Self {
        Mean { value: self.value.exp(), error: self.value.exp() * self.error }
    }
}

/// Scores of a text, collected token by token.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    losses: Vec<f64>,
    reference_losses: Vec<f64>,
    divergences: Vec<f64>,
    /// 1 if both models have the same most probable token, else 0.
    agreements: Vec<f64>,
}

/// The results of scoring a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Tokens scored.
    pub tokens: usize,
    /// Mean loss of a token, in nats.
    pub loss: Mean,
    /// `exp` of it.
    pub perplexity: Mean,
    /// The comparison with the reference, if there is one.
    pub comparison: Option<Comparison>,
}

/// A comparison with a reference model.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The reference's own perplexity.
    pub perplexity: Mean,
    /// KL(reference ‖ model) of a token, in nats.
    pub divergence: Mean,
    /// Its 99th percentile: of n sorted values, number ⌈0.99 n⌉.
    pub divergence_99: f64,
    /// Its maximum.
    pub divergence_most: f64,
    /// Share of the tokens where both models have the same most probable token.
    pub agreement: Mean,
}

impl Tally {
    /// Adds a position whose token is `next`. `reference` is given at every position or at none.
    pub fn add(&mut self, next: u32, model: &Prediction, reference: Option<&Prediction>) {
        self.losses.push(model.loss(next));
        if let Some(reference) = reference {
            self.reference_losses.push(reference.loss(next));
            self.divergences.push(model.divergence_from(reference));
            self.agreements.push(if model.best() == reference.best() { 1.0 } else { 0.0 });
        }
    }

    /// Adds the positions of another tally.
    pub(super) fn append(&mut self, other: Tally) {
        self.losses.extend(other.losses);
        self.reference_losses.extend(other.reference_losses);
        self.divergences.extend(other.divergences);
        self.agreements.extend(other.agreements);
    }

    /// Tokens scored so far.
    pub fn tokens(&self) -> usize {
        self.losses.len()
    }

    /// Perplexity so far.
    pub fn perplexity(&self) -> f64 {
        (self.losses.iter().sum::<f64>() / self.losses.len() as f64).exp()
    }

    /// The results; at least one token must have been added.
    pub fn report(&self) -> Report {
        let loss = Mean::of(&self.losses);
        let mut ordered = self.divergences.clone();
        ordered.sort_by(f64::total_cmp);
        let comparison = ordered.last().map(|most| Comparison {
            perplexity: Mean::of(&self.reference_losses).exp(),
            divergence: Mean::of(&self.divergences),
            divergence_99: ordered[(ordered.len() * 99).div_ceil(100) - 1],
            divergence_most: *most,
            agreement: Mean::of(&self.agreements),
        });
        Report { tokens: self.losses.len(), loss, perplexity: loss.exp(), comparison }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prediction from logits whose softmax is these probabilities, shifted by a constant.
    fn predicted(probabilities: &[f64], constant: f64) -> Prediction {
        let logits: Vec<f32> = probabilities.iter().map(|p| (p.ln() + constant) as f32).collect();
        Prediction::of(&logits).unwrap()
    }

    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-6, "{got}, not {expected}");
    }

    #[test]
    fn a_prediction_is_the_softmax_of_its_logits() {
        let prediction = predicted(&[0.5, 0.25, 0.25], 3.0);
        near(prediction.loss(0), 2f64.ln());
        near(prediction.loss(2), 4f64.ln());
        let far = Prediction::of(&[1000.0, 1000.0, 0.0]).unwrap();
        near(far.loss(1), 2f64.ln());
        near(far.loss(2), 1000.0 + 2f64.ln());
        for bad in [&[][..], &[1.0, f32::NAN], &[1.0, f32::INFINITY], &[1.0, f32::NEG_INFINITY]] {
            assert_eq!(Prediction::of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_divergence_of_known_distributions_is_correct() {
        let (p, q) = (predicted(&[0.5, 0.5], 0.0), predicted(&[0.9, 0.1], 3.0));
        // 0.5 ln(0.5 / 0.9) + 0.5 ln(0.5 / 0.1), and the other way round 0.9 ln 1.8 + 0.1 ln 0.2.
        near(q.divergence_from(&p), 0.510_825_623_766);
        near(p.divergence_from(&q), 0.368_064_207_168);
        assert_eq!(p.divergence_from(&p), 0.0);
        assert_eq!(q.divergence_from(&q), 0.0);
        // A token impossible in the reference costs nothing; one impossible only in the model costs very much.
        let (sure, open) = (Prediction::of(&[0.0, -2000.0]).unwrap(), Prediction::of(&[0.0, 0.0]).unwrap());
        near(open.divergence_from(&sure), 2f64.ln());
        near(sure.divergence_from(&open), 1000.0 - 2f64.ln());
    }

    #[test]
    fn ties_go_to_the_first_token() {
        for (logits, best) in [(&[1.0, 3.0, 3.0][..], 1), (&[2.0, 2.0], 0), (&[-5.0], 0), (&[0.0, -1.0, 0.5], 2)] {
            assert_eq!(Prediction::of(logits).unwrap().best(), best, "{logits:?}");
        }
    }

    #[test]
    fn a_report_matches_hand_computed_values() {
        let even = predicted(&[0.25; 4], 0.0);
        let skewed = predicted(&[0.5, 0.25, 0.125, 0.125], 1.0);
        let mut tally = Tally::default();
        tally.add(0, &skewed, Some(&even));
        near(tally.perplexity(), 2.0);
        tally.add(3, &skewed, Some(&skewed));
        tally.add(2, &even, Some(&skewed));
        assert_eq!(tally.tokens(), 3);
        let report = tally.report();
        // Losses ln 2, ln 8, ln 4: mean ln 4, deviation ln 2, error ln 2 / sqrt 3.
        near(report.loss.value, 4f64.ln());
        near(report.loss.error, 2f64.ln() / 3f64.sqrt());
        near(report.perplexity.value, 4.0);
        near(report.perplexity.error, 4.0 * 2f64.ln() / 3f64.sqrt());
        let comparison = report.comparison.unwrap();
        // Losses of the reference: ln 4, ln 8, ln 8.
        near(comparison.perplexity.value, (8.0 * 2f64.ln() / 3.0).exp());
        // KL(even ‖ skewed) = ln 2 / 4, KL(skewed ‖ even) = ln 2 / 4, and 0 between.
        near(comparison.divergence.value, 2f64.ln() / 6.0);
        near(comparison.divergence_most, 2f64.ln() / 4.0);
        // All have their first token as the most probable: ties go to the first.
        near(comparison.agreement.value, 1.0);
        near(comparison.agreement.error, 0.0);
    }

    #[test]
    fn the_99th_percentile_has_rank_ceil_of_099_n() {
        let of = |n: usize| {
            let divergences = (0..n).rev().map(|i| i as f64).collect();
            let losses = vec![0.0; n];
            let tally =
                Tally { losses: losses.clone(), reference_losses: losses.clone(), divergences, agreements: losses };
            tally.report().comparison.unwrap()
        };
        for (n, percentile) in [(1, 0.0), (2, 1.0), (100, 98.0), (101, 99.0), (1000, 989.0)] {
            assert_eq!((of(n).divergence_99, of(n).divergence_most), (percentile, (n - 1) as f64), "{n}");
        }
    }

    #[test]
    fn a_different_most_probable_token_counts_as_disagreement() {
        let (a, b) = (predicted(&[0.6, 0.4], 0.0), predicted(&[0.4, 0.6], 0.0));
        let mut tally = Tally::default();
        for (model, reference) in [(&a, &b), (&a, &a), (&b, &b), (&b, &a)] {
            tally.add(0, model, Some(reference));
        }
        let agreement = tally.report().comparison.unwrap().agreement;
        near(agreement.value, 0.5);
        // Deviation sqrt(4 / 4 / 3), over sqrt 4.
        near(agreement.error, (1.0f64 / 3.0).sqrt() / 2.0);
    }
}
