//! Ctrl-C while an answer comes.

use peregrine::runtime::CancelHandle;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Stops the answer that is under way; the second time within a second, or with none under way, the program.
#[derive(Clone, Default)]
pub struct Interrupts(Arc<Mutex<Option<UnderWay>>>);

/// An answer that can be stopped, and when somebody did.
struct UnderWay {
    handle: CancelHandle,
    stopped: Option<Instant>,
}

impl Interrupts {
    /// Takes Ctrl-C over for the process. Where that was done already, Ctrl-C ends the program as ever.
    pub fn install() -> Self {
        let interrupts = Interrupts::default();
        let heard = interrupts.clone();
        let _ = ctrlc::set_handler(move || {
            let mut under_way = heard.0.lock().unwrap_or_else(|e| e.into_inner());
            let again = |stopped: Instant| stopped.elapsed().as_secs_f64() < 1.0;
            match &mut *under_way {
                Some(answer) if !answer.stopped.is_some_and(again) => {
                    answer.handle.cancel();
                    answer.stopped = Some(Instant::now());
                }
                _ => std::process::exit(130),
            }
        });
        interrupts
    }

    pub fn watch(&self, handle: Option<CancelHandle>) {
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = handle.map(|handle| UnderWay { handle, stopped: None });
    }
}
