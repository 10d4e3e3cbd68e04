//! Snapshots: a conversation's state as data that can be stored in a file and restored into a session.

mod file;
mod fingerprint;
mod metadata;
mod origin;
mod precision;
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

/// Everything that a conversation needs to continue in another session, in another process, or on another machine.
///
/// On the same adapter, with the same weights and the same class of arithmetic, it continues bit for bit as it would have without
/// the interruption. Taken with [`Session::snapshot`](super::Session::snapshot), restored with
/// [`Session::restore`](super::Session::restore).
///
/// ```no_run
/// # fn f(session: &mut peregrine::Session) -> peregrine::Result<()> {
/// use peregrine::Snapshot;
/// session.snapshot()?.save("talk.state")?;
/// for warning in session.restore(&Snapshot::open("talk.state")?)? {
///     eprintln!("{warning}"); // another adapter, other weights: the text may differ
/// }
/// # Ok(())
/// # }
/// ```
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

    /// The last tokens consumed, which penalties count.
    pub fn recent(&self) -> &[u32] {
        self.conversation.recent()
    }

    /// The recurrent state and the last logits.
    pub fn state(&self) -> &SlotState {
        &self.state
    }

    /// The sampling parameters. Each draw depends only on the seed and the position.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// The conversation.
    pub fn messages(&self) -> &[Message] {
        &self.conversation.messages
    }

    /// The rendered conversation, as far as it was consumed.
    pub fn text(&self) -> &str {
        &self.conversation.text
    }

    /// Bytes of an incomplete UTF-8 character at the end.
    pub fn unfinished(&self) -> &[u8] {
        &self.conversation.unfinished
    }

    /// Whether the model had ended its answer.
    pub fn ended(&self) -> bool {
        self.conversation.ended
    }

    /// The model, device and version that it was made with.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The precision of its recurrent state.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Rounds the recurrent state to half precision, at half the size; see [`Precision::Half`].
    pub fn halved(mut self) -> Self {
        self.state.tensors_mut().for_each(|(tensor, values)| precision::round_rows(values, tensor.shape[0]));
        self.precision = Precision::Half;
        self
    }

    /// Checks that everything in it fits a model of this config; the error says what does not.
    fn check(&self, config: &Config) -> Result<(), String> {
        if *self.state.layout() != config.state_layout() {
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

    /// Checks that it can continue with the model of `now`; returns what may make a difference.
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
