//! A conversation's state as data that a user owns: taken from a session, kept in a file, put into a session.

mod file;
mod fingerprint;
mod metadata;
mod origin;
mod precision;
mod session;
#[cfg(test)]
mod tests;

pub use origin::{Origin, Warning};
pub use precision::Precision;

use super::conversation::Conversation;
use super::sampler::Sampling;
use crate::error::{Error, Result};
use crate::kernels::select::WINDOW;
use crate::model::{Config, SlotState};
use crate::text::Message;

/// All that a conversation needs to go on: in another session, another process, on another machine.
///
/// On the same adapter, with the same weights and the same class of arithmetic, what comes is bit for bit what would have come
/// without the stop. Taken with [`Session::snapshot`](super::Session::snapshot), put back with
/// [`Session::restore`](super::Session::restore).
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub(super) state: SlotState,
    pub(super) precision: Precision,
    pub(super) conversation: Conversation,
    pub(super) sampling: Sampling,
    pub(super) origin: Origin,
}

impl Snapshot {
    /// Tokens consumed.
    pub fn position(&self) -> u64 {
        self.conversation.position
    }

    /// All tokens consumed, if the session kept them.
    pub fn ids(&self) -> Option<&[u32]> {
        self.conversation.ids.as_deref()
    }

    /// The last tokens consumed, which penalties look at.
    pub fn recent(&self) -> &[u32] {
        self.conversation.recent()
    }

    /// The recurrent state and the last logits.
    pub fn state(&self) -> &SlotState {
        &self.state
    }

    /// How tokens are chosen. Each draw depends on the seed and the position alone.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// The conversation.
    pub fn messages(&self) -> &[Message] {
        &self.conversation.messages
    }

    /// The conversation as the template renders it, as far as it was consumed.
    pub fn text(&self) -> &str {
        &self.conversation.text
    }

    /// Bytes of a character whose other bytes were still to come.
    pub fn unfinished(&self) -> &[u8] {
        &self.conversation.unfinished
    }

    /// Whether the model had ended its answer.
    pub fn ended(&self) -> bool {
        self.conversation.ended
    }

    /// What it was made with.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How exactly its recurrent state is kept.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The same with a recurrent state of half precision, at half the size: see [`Precision::Half`].
    pub fn halved(mut self) -> Self {
        let rows = |values: &mut Vec<f32>, rows: usize| precision::round_rows(values, rows);
        let config = &self.origin.identity.config;
        self.state.conv.iter_mut().for_each(|values| rows(values, config.conv_kernel - 1));
        self.state.ssm.iter_mut().for_each(|values| rows(values, config.state));
        self.precision = Precision::Half;
        self
    }

    /// Whether everything in it is of a model of this shape; else what is not.
    fn check(&self, config: &Config) -> Result<(), String> {
        if !self.state.fits(config) {
            return Err("its tensors are not those of the model that it names".to_owned());
        }
        let Conversation { position, ids, unfinished, .. } = &self.conversation;
        let recent = &self.conversation.recent;
        let ids_of_all = ids.iter().flatten().chain(recent);
        if let Some(id) = ids_of_all.copied().find(|id| *id as usize >= config.vocab) {
            return Err(format!("it holds the token {id}, and its model has {}", config.vocab));
        }
        let most = usize::try_from(*position).unwrap_or(usize::MAX);
        if recent.len() > most.min(WINDOW) {
            return Err(format!("it holds {} recent tokens of {position}", recent.len()));
        }
        if let Some(ids) = ids {
            if ids.len() as u64 != *position {
                return Err(format!("it holds {} tokens of {position}", ids.len()));
            }
            if !ids.ends_with(recent) {
                return Err("its recent tokens are not the last of its tokens".to_owned());
            }
        }
        if unfinished.len() > 3 {
            return Err(format!("a character of more than {} bytes is unfinished", unfinished.len()));
        }
        self.sampling.rules(config.vocab).map_err(|e| e.to_string())?;
        Ok(())
    }

    /// Whether it may go on with the model that `now` is; what will be different then.
    pub(super) fn admitted(&self, now: &Origin) -> Result<Vec<Warning>> {
        let differences = now.identity.differences(&self.origin.identity);
        if !differences.is_empty() {
            return Err(Error::StateOfAnotherModel { differences: differences.join("; ") });
        }
        let damaged = |problem| Error::DamagedState { file: "the snapshot".to_owned(), problem };
        self.check(&now.identity.config).map_err(damaged)?;
        let mut warnings = self.origin.warnings(now);
        if self.precision == Precision::Half {
            warnings.push(Warning::Half);
        }
        Ok(warnings)
    }
}
