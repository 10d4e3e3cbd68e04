//! Ctrl-C while the program works.

use peregrine::runtime::CancelHandle;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Ctrl-C: the first ends what is under way, the second the program.
#[derive(Clone, Default)]
pub struct Interrupt {
    hit: Arc<AtomicBool>,
    /// What each worker does now.
    ends: Arc<Mutex<HashMap<usize, CancelHandle>>>,
}

impl Interrupt {
    /// Listens from now on; until then Ctrl-C ends the program as ever.
    pub fn listen(&self) {
        let heard = self.clone();
        // Where no handler can be set it goes on doing that.
        let _ = ctrlc::set_handler(move || {
            if heard.hit.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            heard.ends_now().values().for_each(CancelHandle::cancel_all);
        });
    }

    pub fn hit(&self) -> bool {
        self.hit.load(Ordering::SeqCst)
    }

    /// As if somebody had interrupted, but for what is under way.
    pub fn stop(&self) {
        self.hit.store(true, Ordering::SeqCst);
    }

    /// From now on it ends what a session does, in place of what this worker did before.
    pub fn ends(&self, worker: usize, handle: CancelHandle) {
        self.ends_now().insert(worker, handle.clone());
        // Whoever interrupted a moment ago did not know of this session.
        if self.hit() {
            handle.cancel_all();
        }
    }

    fn ends_now(&self) -> MutexGuard<'_, HashMap<usize, CancelHandle>> {
        self.ends.lock().unwrap_or_else(|e| e.into_inner())
    }
}
