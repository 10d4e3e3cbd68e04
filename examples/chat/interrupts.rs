//! Ctrl-C, SIGTERM and SIGHUP during a chat.

use super::signals;
use peregrine::runtime::CancelHandle;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Ctrl-C stops the running answer; a second one within a second leaves the chat, and a third ends the program. SIGTERM and
/// SIGHUP leave the chat. A chat that is left is saved.
#[derive(Clone)]
pub struct Interrupts(Arc<Shared>);

struct Shared {
    cancel: CancelHandle,
    /// Whether there is a line editor, which handles Ctrl-C itself while it waits for a line.
    interactive: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether an answer is running.
    answering: bool,
    /// When Ctrl-C was last pressed since the last line was read.
    pressed: Option<Instant>,
    /// Set when the chat is to end.
    leaving: Option<LeaveReason>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LeaveReason {
    CtrlC,
    Signal,
}

impl Interrupts {
    /// Installs the process's Ctrl-C handler, and in an interactive chat those of SIGTERM and SIGHUP. If another handler is
    /// already installed, it stays.
    pub fn install(cancel: CancelHandle, interactive: bool) -> Self {
        let interrupts = Interrupts(Arc::new(Shared { cancel, interactive, state: Mutex::default() }));
        let heard = interrupts.clone();
        if ctrlc::set_handler(move || heard.press()).is_ok() && interactive {
            let heard = interrupts.clone();
            signals::on_termination(move || heard.leave());
        }
        interrupts
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn press(&self) {
        let mut state = self.state();
        match state.leaving {
            // `leave` raised this signal to wake the line editor.
            Some(LeaveReason::Signal) => return,
            Some(LeaveReason::CtrlC) => std::process::exit(130),
            None => {}
        }
        if !self.0.interactive && !state.answering {
            std::process::exit(130);
        }
        let again = state.pressed.is_some_and(|pressed| pressed.elapsed() < Duration::from_secs(1));
        state.pressed = Some(Instant::now());
        match (again, self.0.interactive) {
            (false, _) => self.0.cancel.cancel(),
            (true, true) => {
                state.leaving = Some(LeaveReason::CtrlC);
                self.0.cancel.cancel_all();
            }
            (true, false) => std::process::exit(130),
        }
    }

    /// SIGTERM or SIGHUP: leaves the chat.
    fn leave(&self) {
        self.state().leaving = Some(LeaveReason::Signal);
        self.0.cancel.cancel_all();
        // The line editor may be about to wait for a line, so keep waking it until the program has ended.
        loop {
            signals::interrupt_the_editor();
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Forgets earlier Ctrl-C presses, before a new line is read.
    pub fn forget(&self) {
        self.state().pressed = None;
    }

    /// Whether Ctrl-C was pressed since the last line was read.
    pub fn pressed(&self) -> bool {
        self.state().pressed.is_some()
    }

    /// Sets whether an answer is running.
    pub fn answering(&self, answering: bool) {
        self.state().answering = answering;
    }

    /// Whether the chat is to end.
    pub fn leaving(&self) -> bool {
        self.state().leaving.is_some()
    }
}
