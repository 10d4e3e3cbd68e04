//! Builds without the feature `grammar`: the fields of constraints stay unsupported.

use super::fields::Fields;
use super::request_error::RequestError;
use crate::error::Result as Outcome;
use crate::runtime::Checkpoint;
use crate::text::Grammar;

/// No request has one.
#[derive(Debug)]
pub(super) enum AskedConstraint {}

impl AskedConstraint {
    pub(super) fn read(_: &mut Fields<'_>) -> Result<Option<Self>, RequestError> {
        Ok(None)
    }

    pub(super) fn fits(&self, _: &Checkpoint) -> Result<(), RequestError> {
        match *self {}
    }

    pub(super) fn grammar(&self, _: &Checkpoint) -> Outcome<Grammar> {
        match *self {}
    }
}
