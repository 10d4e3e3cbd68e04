//! What a command does when its device is lost: it reopens the device, says so, and goes on.

use super::chat::repl::screen::note;
use super::chat::repl::{MAX_LOSSES, reopened_message};
use peregrine::runtime::Engine;
use peregrine::{Error, Result};

/// The losses of an engine's device.
pub struct Losses {
    engine: Engine,
    in_a_row: usize,
}

impl Losses {
    pub fn of(engine: &Engine) -> Self {
        Losses { engine: engine.clone(), in_a_row: 0 }
    }

    /// Counts the next loss as the first: the work went on since the last one.
    pub fn went_on(&mut self) {
        self.in_a_row = 0;
    }

    /// Reopens a device that was lost, with a note. Gives back any other error, and one loss too many.
    pub fn recover(&mut self, error: Error) -> Result<()> {
        let mut error = error;
        while let (Error::DeviceLost { .. }, true) = (&error, self.in_a_row < MAX_LOSSES) {
            self.in_a_row += 1;
            match self.engine.recover(&mut |_| {}) {
                Ok(reopened) => {
                    if reopened {
                        note(&reopened_message(&error, &self.engine.gpu().info().name));
                    }
                    return Ok(());
                }
                Err(again) => error = again,
            }
        }
        Err(error)
    }

    /// Does `what`, again after each loss. After an error `what` must leave everything as before.
    pub fn insist<T>(&mut self, mut what: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            match what() {
                Ok(done) => {
                    self.went_on();
                    return Ok(done);
                }
                Err(error) => self.recover(error)?,
            }
        }
    }
}
