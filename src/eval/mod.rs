//! Quality of a model: perplexity on a text, divergence from a reference model, and accuracy on questions.

#[cfg(feature = "vision")]
mod pictures;
mod questions;
mod score;

#[cfg(feature = "vision")]
pub use pictures::{LabelledPicture, Rating, rate};
pub use questions::{Accuracy, LONGEST_ANSWER, Question, ask};
pub use score::{Comparison, Mean, Prediction, Report, Tally};

use crate::error::{Error, Result};
use crate::model::{Forward, Logits};

/// Default window length in tokens.
pub const WINDOW: usize = 512;

/// How a model reads a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reading {
    /// By prefill, a chunk of tokens at a time.
    #[default]
    Chunks,
    /// By decode steps, one token at a time, which use other matrix kernels than prefill.
    Steps,
}

/// Reads a text into slot 0 from a fresh state; `each` gets logits `[rows, V]` after the tokens, some rows at a time.
fn read(
    forward: &mut Forward,
    reading: Reading,
    ids: &[u32],
    mut each: impl FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    forward.reset(0)?;
    match reading {
        Reading::Chunks => pollster::block_on(forward.prefill_logits(0, ids, Logits::All, each)),
        Reading::Steps => ids.iter().try_for_each(|id| {
            forward.set_next(0, *id)?;
            forward.set_decoding(&[0])?;
            let step = forward.step()?;
            pollster::block_on(forward.arrived(step))?; // the sampled token is not used
            each(&pollster::block_on(forward.logits(0, 0))?)
        }),
    }
}

/// Scores a model on a text, in windows of `window` tokens: each starts from a fresh state, and all its tokens but the first
/// are scored. With a `reference`, the predictions of both models are compared; the reference's logits of one window are
/// buffered on the host. Both models use their slot 0. `on_window` is called after each window.
///
/// Perplexity is `exp` of the mean loss in nats. The divergence is KL(reference ‖ model), zero if both predict the same.
pub fn run(
    model: &mut Forward,
    reference: Option<&mut Forward>,
    ids: &[u32],
    how: (usize, Reading),
    on_window: &mut dyn FnMut(&Tally),
) -> Result<Report> {
    let mut tally = Tally::default();
    add_windows(&mut tally, (model, reference), ids, how, on_window)?;
    Ok(tally.report())
}

/// [`run`], from the first window that `tally` lacks. After an error it has whole windows, and the same call on models that were
/// loaded again goes on.
pub fn add_windows(
    tally: &mut Tally,
    (model, mut reference): (&mut Forward, Option<&mut Forward>),
    ids: &[u32],
    (window, reading): (usize, Reading),
    on_window: &mut dyn FnMut(&Tally),
) -> Result<()> {
    if window < 2 {
        let problem = "a window needs at least two tokens, since its first is not scored";
        return Err(Error::BadSetting { name: "ctx", value: window.to_string(), problem });
    }
    if ids.len() < 2 {
        return Err(Error::TextTooShort { tokens: ids.len() });
    }
    let vocab = model.config().vocab;
    if let Some(other) = reference.as_ref().map(|reference| reference.config().vocab).filter(|other| *other != vocab) {
        return Err(Error::VocabulariesDiffer { model: vocab, reference: other });
    }
    // All windows but the last have the same length.
    let done = tally.tokens() / (window - 1);
    for ids in ids.chunks(window).skip(done).filter(|ids| ids.len() > 1) {
        // Nothing follows the last token, so it is not fed.
        let (fed, scored) = (&ids[..ids.len() - 1], &ids[1..]);
        let mut kept = Vec::new();
        if let Some(reference) = &mut reference {
            kept.reserve(fed.len() * vocab);
            read(reference, reading, fed, |rows| {
                kept.extend_from_slice(rows);
                Ok(())
            })?;
        }
        let mut kept = kept.chunks_exact(vocab);
        let mut of_window = Tally::default();
        read(model, reading, fed, |rows| {
            for row in rows.chunks_exact(vocab) {
                let at = of_window.tokens();
                let predicted = |row: &[f32]| Prediction::of(row).ok_or(Error::NotFinite { position: at as u64 });
                let reference = kept.next().map(predicted).transpose()?;
                of_window.add(scored[at], &predicted(row)?, reference.as_ref());
            }
            Ok(())
        })?;
        tally.append(of_window);
        on_window(tally);
    }
    Ok(())
}
