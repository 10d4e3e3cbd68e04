//! Ctrl-C, SIGTERM and SIGHUP during non-interactive commands.

use super::chat::repl::signals::on_termination;
use peregrine::output::remove_unfinished;
use peregrine::runtime::CancelHandle;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Removes temporary files and exits with code 130, as after Ctrl-C.
fn exit_now() -> ! {
    remove_unfinished();
    std::process::exit(130)
}

/// Makes Ctrl-C, SIGTERM and SIGHUP remove temporary files before they end the program.
pub fn remove_files_on_signal() {
    // If no handler can be set, the signal's default action ends the program.
    let _ = ctrlc::set_handler(|| exit_now());
    on_termination(|| exit_now());
}

/// Graceful interruption: the first Ctrl-C, SIGTERM or SIGHUP cancels the running work, the second ends the program.
#[derive(Clone, Default)]
pub struct Interrupt {
    hit: Arc<AtomicBool>,
    /// The current cancel handle of each worker.
    handles: Arc<Mutex<HashMap<usize, CancelHandle>>>,
}

impl Interrupt {
    /// Installs the handlers. Before this call the signals end the program.
    pub fn listen(&self) {
        let heard = self.clone();
        // If no handler can be set, the default action remains.
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

    /// Whether the program was interrupted, by a signal or by [`Interrupt::stop`].
    pub fn hit(&self) -> bool {
        self.hit.load(Ordering::SeqCst)
    }

    /// Makes all workers stop, without cancelling their running requests.
    pub fn stop(&self) {
        self.hit.store(true, Ordering::SeqCst);
    }

    /// Registers the handle to cancel on interruption, in place of this worker's previous one.
    pub fn cancels(&self, worker: usize, handle: CancelHandle) {
        self.handles().insert(worker, handle.clone());
        // The signal may have arrived before this registration.
        if self.hit() {
            handle.cancel_all();
        }
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<usize, CancelHandle>> {
        self.handles.lock().unwrap_or_else(|e| e.into_inner())
    }
}
