//! Taking snapshots of a session and restoring them.

use super::Session;
use super::history::History;
use crate::error::{Error, Result};
use crate::runtime::backup::Backup;
use crate::runtime::engine::Engine;
use crate::runtime::snapshot::{Precision, Snapshot, Warning};

impl Engine {
    /// Checks whether a snapshot can continue on this engine, as [`Session::restore_async`] does.
    pub async fn check_snapshot_async(&self, snapshot: &Snapshot) -> Result<Vec<Warning>> {
        snapshot.admitted(&self.origin().await?)
    }
}

impl Session {
    /// Sets whether to keep the ids of all tokens consumed, for snapshots and [`Session::ids`]; they take four bytes each. Only a
    /// session that has consumed nothing yet can start keeping them.
    pub fn keep_ids(&mut self, keep: bool) -> Result<()> {
        if keep && self.ids().is_none() && self.position() > 0 {
            let problem = "this session has consumed tokens whose ids were not kept; clear it first";
            return Err(Error::BadSetting { name: "keep_ids", value: keep.to_string(), problem });
        }
        let ids = &mut self.conversation.ids;
        *ids = keep.then(|| ids.take().unwrap_or_default());
        Ok(())
    }

    /// All tokens consumed, if they are kept.
    pub fn ids(&self) -> Option<&[u32]> {
        self.conversation.all_ids()
    }

    /// Takes a snapshot of the conversation: after the last chunk of a prompt, or after the last token returned.
    pub async fn snapshot_async(&self) -> Result<Snapshot> {
        let origin = self.engine.origin().await?;
        let state = self.schedule().await?.read_state(self.slot, self.position()).await?;
        Ok(Snapshot {
            state,
            precision: Precision::Whole,
            conversation: self.conversation.trimmed(),
            sampling: self.sampling.clone(),
            origin,
        })
    }

    /// Continues from a snapshot instead of what this session has consumed. Returns what may make the tokens differ from those of an
    /// uninterrupted session; without warnings they are the same, bit for bit.
    ///
    /// Refuses a snapshot of another model and leaves the session unchanged.
    pub async fn restore_async(&mut self, snapshot: &Snapshot) -> Result<Vec<Warning>> {
        let warnings = snapshot.admitted(&self.engine.origin().await?)?;
        let mut scheduler = self.schedule().await?;
        let written = scheduler.write_state(self.slot, snapshot.position(), &snapshot.state).await;
        let set = match written {
            Ok(()) => self.engine.set_sampling(&mut scheduler, self.slot, &snapshot.sampling).await,
            Err(error) => Err(error),
        };
        drop(scheduler);
        set.inspect_err(|_| self.doubt())?;
        self.backup = Backup::at(snapshot.state.clone(), snapshot.position());
        self.history = History::default();
        self.conversation = snapshot.conversation.clone();
        self.sampling = snapshot.sampling.clone();
        Ok(warnings)
    }
}
