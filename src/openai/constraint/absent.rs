//! Builds without the feature `grammar`: the fields of constraints stay unsupported.

use super::fields::Fields;
use super::request_error::{FieldPath, RequestError};
use super::tools::calls::CallForm;
use crate::error::Result as Outcome;
use crate::runtime::Checkpoint;
use crate::text::Grammar;
use serde_json::Value;

/// No request has one.
#[derive(Debug)]
pub(super) enum AskedConstraint {}

impl AskedConstraint {
    pub(super) fn read(_: &mut Fields<'_>) -> Result<Option<Self>, RequestError> {
        Ok(None)
    }

    pub(super) fn on_call(_: CallForm, _: &Value, _: &FieldPath) -> Option<Self> {
        None
    }

    pub(super) fn fits(&self, _: &Checkpoint) -> Result<(), RequestError> {
        match *self {}
    }

    pub(super) fn grammar(&self, _: &Checkpoint) -> Outcome<Grammar> {
        match *self {}
    }
}
