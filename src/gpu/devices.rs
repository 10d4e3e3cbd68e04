//! The open devices of this process.

use super::latch::Latch;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use web_time::Instant;

static DEVICES: Mutex<Vec<Weak<Latch>>> = Mutex::new(Vec::new());

/// Counts a device until it is dropped.
pub(super) fn count(latch: &Arc<Latch>) {
    let mut devices = DEVICES.lock().unwrap_or_else(|e| e.into_inner());
    devices.retain(|device| device.strong_count() > 0);
    devices.push(Arc::downgrade(latch));
}

/// Waits, at most this long in all, until the devices of this process have done what they were given. For a program that is about to exit
/// with models loaded: an answer submits its next step before anyone asks for it, and a driver that computes on the CPU can crash a
/// process that exits meanwhile.
pub fn settle(most: Duration) {
    let devices: Vec<_> = DEVICES.lock().unwrap_or_else(|e| e.into_inner()).iter().filter_map(Weak::upgrade).collect();
    let begun = Instant::now();
    for device in devices {
        device.settle(most.saturating_sub(begun.elapsed()));
    }
}
