//! Ctrl-C, SIGTERM and SIGHUP while the program works.

use super::chat::repl::signals::on_termination;
use peregrine::output::remove_unfinished;
use peregrine::runtime::CancelHandle;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Ends the program as Ctrl-C does where nobody listens, but leaves no temporary files.
fn exit_now() -> ! {
    remove_unfinished();
    std::process::exit(130)
}

/// From now on Ctrl-C, SIGTERM and SIGHUP end the program at once, and it leaves no temporary files.
pub fn remove_files_on_signal() {
    // Where no handler can be set they end it as ever.
    let _ = ctrlc::set_handler(|| exit_now());
    on_termination(|| exit_now());
}

/// Ctrl-C, SIGTERM or SIGHUP: the first ends what is under way, the second the program.
#[derive(Clone, Default)]
pub struct Interrupt {
    hit: Arc<AtomicBool>,
    /// What each worker does now.
    handles: Arc<Mutex<HashMap<usize, CancelHandle>>>,
}

impl Interrupt {
    /// Listens from now on; until then they end the program as ever.
    pub fn listen(&self) {
        let heard = self.clone();
        // Where no handler can be set it goes on doing that.
        let _ = ctrlc::set_handler(move || heard.on_signal());
        let heard = self.clone();
        on_termination(move || heard.on_signal());
    }

    fn on_signal(&self) {
        if self.hit.swap(true, Ordering::SeqCst) {
            exit_now();
        }
        self.handles().values().for_each(CancelHandle::cancel_all);
    }

    pub fn hit(&self) -> bool {
        self.hit.load(Ordering::SeqCst)
    }

    /// As if somebody had interrupted, but for what is under way.
    pub fn stop(&self) {
        self.hit.store(true, Ordering::SeqCst);
    }

    /// From now on it ends what a session does, in place of what this worker did before.
    pub fn cancels(&self, worker: usize, handle: CancelHandle) {
        self.handles().insert(worker, handle.clone());
        // Whoever interrupted a moment ago did not know of this session.
        if self.hit() {
            handle.cancel_all();
        }
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<usize, CancelHandle>> {
        self.handles.lock().unwrap_or_else(|e| e.into_inner())
    }
}
