//! Taking snapshots of a session and restoring them.

use super::{Precision, Snapshot, Warning};
use crate::error::{Error, Result};
use crate::kernels::select::WINDOW;
use crate::runtime::Session;
use crate::runtime::backup::Backup;
use crate::runtime::turns::Past;

impl Session {
    /// Sets whether to keep the ids of all tokens consumed, for snapshots and [`Session::ids`]; they take four bytes each. Only a
    /// session that has consumed nothing yet can start keeping them.
    pub fn keep_ids(&mut self, keep: bool) -> Result<()> {
        if keep && self.ids().is_none() && self.position > 0 {
            let problem = "this session has consumed tokens whose ids were not kept; clear it first";
            return Err(Error::BadSetting { name: "keep_ids", value: keep.to_string(), problem });
        }
        self.ids = keep.then(|| self.ids.take().unwrap_or_default());
        Ok(())
    }

    /// All tokens consumed, if they are kept.
    pub fn ids(&self) -> Option<&[u32]> {
        self.ids.as_deref().filter(|ids| ids.len() as u64 == self.position)
    }

    /// Takes a snapshot of the conversation: after the last chunk of a prompt, or after the last token returned.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let origin = self.engine.origin()?;
        let state = self.schedule()?.read_state(self.slot, self.position)?;
        Ok(Snapshot {
            state,
            precision: Precision::Whole,
            position: self.position,
            ids: self.ids().map(<[u32]>::to_vec),
            recent: self.consumed[self.consumed.len().saturating_sub(WINDOW)..].to_vec(),
            sampling: self.sampling.clone(),
            messages: self.messages.clone(),
            text: self.fed.clone(),
            unfinished: self.unfinished.clone(),
            ended: self.ended,
            origin,
        })
    }

    /// Continues from a snapshot instead of what this session has consumed. Returns what may make the tokens differ from those of an
    /// uninterrupted session; without warnings they are the same, bit for bit.
    ///
    /// Refuses a snapshot of another model and leaves the session unchanged.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<Vec<Warning>> {
        let warnings = snapshot.admitted(&self.engine.origin()?)?;
        let mut stepper = self.schedule()?;
        let written = stepper.write_state(self.slot, snapshot.position, &snapshot.state);
        let set = written.and_then(|()| self.engine.set_sampling(&mut stepper, self.slot, &snapshot.sampling));
        drop(stepper);
        set.inspect_err(|_| self.doubt())?;
        self.backup = Backup::at(snapshot.state.clone(), snapshot.position);
        self.past = Past::default();
        self.position = snapshot.position;
        self.ids.clone_from(&snapshot.ids);
        self.consumed.clone_from(&snapshot.recent);
        self.sampling = snapshot.sampling.clone();
        self.messages.clone_from(&snapshot.messages);
        self.fed.clone_from(&snapshot.text);
        self.unfinished.clone_from(&snapshot.unfinished);
        self.ended = snapshot.ended;
        Ok(warnings)
    }
}
