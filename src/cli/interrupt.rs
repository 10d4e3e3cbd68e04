//! Ctrl-C, SIGTERM and SIGHUP while the program works.

use super::chat::repl::signals::on_termination;
use peregrine::output::remove_unfinished;
use peregrine::runtime::CancelHandle;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Ends the program as Ctrl-C does where nobody listens, but leaves no temporary files.
fn end_at_once() -> ! {
    remove_unfinished();
    std::process::exit(130)
}

/// From now on Ctrl-C, SIGTERM and SIGHUP end the program at once, and it leaves no temporary files.
pub fn leave_nothing() {
    // Where no handler can be set they end it as ever.
    let _ = ctrlc::set_handler(|| end_at_once());
    on_termination(|| end_at_once());
}

/// Ctrl-C, SIGTERM or SIGHUP: the first ends what is under way, the second the program.
#[derive(Clone, Default)]
pub struct Interrupt {
    hit: Arc<AtomicBool>,
    /// What each worker does now.
    ends: Arc<Mutex<HashMap<usize, CancelHandle>>>,
}

impl Interrupt {
    /// Listens from now on; until then they end the program as ever.
    pub fn listen(&self) {
        let heard = self.clone();
        // Where no handler can be set it goes on doing that.
        let _ = ctrlc::set_handler(move || heard.hear());
        let heard = self.clone();
        on_termination(move || heard.hear());
    }

    fn hear(&self) {
        if self.hit.swap(true, Ordering::SeqCst) {
            end_at_once();
        }
        self.ends_now().values().for_each(CancelHandle::cancel_all);
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
