//! Between a session and its snapshots.

use super::{Precision, Snapshot, Warning};
use crate::error::{Error, Result};
use crate::runtime::Session;
use crate::runtime::backup::Backup;
use crate::runtime::history::History;

impl Session {
    /// Whether to keep the ids of all tokens consumed, for snapshots and for [`Session::ids`]; they take four bytes each.
    /// Only a session that has consumed nothing yet can begin to.
    pub fn keep_ids(&mut self, keep: bool) -> Result<()> {
        if keep && self.ids().is_none() && self.position() > 0 {
            let problem = "this session has consumed tokens whose ids were not kept; clear it first";
            return Err(Error::BadSetting { name: "keep_ids", value: keep.to_string(), problem });
        }
        let ids = &mut self.conversation.ids;
        *ids = keep.then(|| ids.take().unwrap_or_default());
        Ok(())
    }

    /// All tokens consumed, where they are kept.
    pub fn ids(&self) -> Option<&[u32]> {
        self.conversation.all_ids()
    }

    /// The conversation's state at this moment: after the last chunk of a prompt, or after the last token given out.
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

    /// Goes on from a snapshot, in place of what this session has consumed. Tells what may make the tokens differ from those
    /// that would have come; without any of that they are the same, bit for bit.
    ///
    /// A snapshot of another model is refused, and the session is as it was.
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
