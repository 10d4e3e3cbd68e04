//! How well a model predicts a text, and how far its predictions lie from another model's; and how many questions it answers as
//! expected.

mod questions;
mod score;

pub use questions::{Accuracy, LONGEST_ANSWER, Question, ask};
pub use score::{Comparison, Mean, Prediction, Report, Tally};

use crate::error::{Error, Result};
use crate::model::{Forward, Logits};

/// Tokens of a window if nobody says otherwise.
pub const WINDOW: usize = 512;

/// Scores a model on a text, in windows of `window` tokens: each starts from a fresh state, and all its tokens but the first,
/// which nothing predicts, are scored. With a `reference`, the model's predictions are held against its; the logits of a
/// window of the reference are kept on the host meanwhile. Both run in their slot 0. `see` hears after each window.
///
/// Perplexity is `exp` of the mean loss, in nats. The divergence is KL(reference ‖ model), which is zero where both predict
/// the same.
pub fn run(
    model: &mut Forward,
    mut reference: Option<&mut Forward>,
    ids: &[u32],
    window: usize,
    see: &mut dyn FnMut(&Tally),
) -> Result<Report> {
    if window < 2 {
        let problem = "a window has at least two tokens: its first is not scored";
        return Err(Error::BadSetting { name: "ctx", value: window.to_string(), problem });
    }
    if ids.len() < 2 {
        return Err(Error::TextTooShort { tokens: ids.len() });
    }
    let vocab = model.config().vocab;
    if let Some(other) = reference.as_ref().map(|reference| reference.config().vocab).filter(|other| *other != vocab) {
        return Err(Error::VocabulariesDiffer { model: vocab, reference: other });
    }
    let mut tally = Tally::default();
    for ids in ids.chunks(window).filter(|ids| ids.len() > 1) {
        // The last token's logits are about a token that is not there.
        let (read, scored) = (&ids[..ids.len() - 1], &ids[1..]);
        let mut kept = Vec::new();
        if let Some(reference) = &mut reference {
            kept.reserve(read.len() * vocab);
            reference.reset(0)?;
            pollster::block_on(reference.prefill_logits(0, read, Logits::All, |rows| {
                kept.extend_from_slice(rows);
                Ok(())
            }))?;
        }
        let mut kept = kept.chunks_exact(vocab);
        let mut at = 0;
        model.reset(0)?;
        pollster::block_on(model.prefill_logits(0, read, Logits::All, |rows| {
            for row in rows.chunks_exact(vocab) {
                let predicted = |row: &[f32]| Prediction::of(row).ok_or(Error::NotFinite { position: at as u64 });
                let reference = kept.next().map(predicted).transpose()?;
                tally.add(scored[at], &predicted(row)?, reference.as_ref());
                at += 1;
            }
            Ok(())
        }))?;
        see(&tally);
    }
    Ok(tally.report())
}
