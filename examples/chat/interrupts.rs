//! Ctrl-C, SIGTERM and SIGHUP while a chat is on.

use super::signals;
use peregrine::runtime::CancelHandle;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Ctrl-C stops the answer that is under way; the second time within a second it leaves the chat, and the third the program.
/// SIGTERM and SIGHUP leave the chat. Whoever leaves has the chat kept.
#[derive(Clone)]
pub struct Interrupts(Arc<Shared>);

struct Shared {
    cancel: CancelHandle,
    /// Whether a line editor waits for lines: it takes Ctrl-C itself while it does.
    interactive: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether an answer is under way.
    answering: bool,
    /// When Ctrl-C was pressed since the last line.
    pressed: Option<Instant>,
    leaving: Option<LeaveReason>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LeaveReason {
    CtrlC,
    Signal,
}

impl Interrupts {
    /// Takes Ctrl-C over for the process, and in an interactive chat SIGTERM and SIGHUP. Where that was done already, they
    /// end the program as ever.
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
            // It is us who woke the line editor.
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

    /// Somebody wants the program to end.
    fn leave(&self) {
        self.state().leaving = Some(LeaveReason::Signal);
        self.0.cancel.cancel_all();
        // The line editor may be about to wait: until the program has ended.
        loop {
            signals::interrupt_the_editor();
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A line is about to be typed: what was pressed before it is past.
    pub fn forget(&self) {
        self.state().pressed = None;
    }

    /// Whether Ctrl-C was pressed since then.
    pub fn pressed(&self) -> bool {
        self.state().pressed.is_some()
    }

    /// Says whether an answer is under way.
    pub fn answering(&self, answering: bool) {
        self.state().answering = answering;
    }

    /// Whether the chat is to end.
    pub fn leaving(&self) -> bool {
        self.state().leaving.is_some()
    }
}
