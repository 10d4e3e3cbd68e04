//! SIGTERM and SIGHUP handlers.

/// Calls `handler` from its own thread on SIGTERM or SIGHUP. Signals ignored at the start, as under `nohup`, stay ignored. Does
/// nothing on systems other than Unix.
#[cfg(unix)]
pub fn on_termination(mut handler: impl FnMut() + Send + 'static) {
    use signal_hook::consts::{SIGHUP, SIGTERM};
    let wanted = [SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal));
    // On failure the signals keep their default action.
    let Ok(mut signals) = signal_hook::iterator::Signals::new(wanted) else { return };
    std::thread::spawn(move || signals.forever().for_each(|_| handler()));
}

#[cfg(not(unix))]
pub fn on_termination(_handler: impl FnMut() + Send + 'static) {}

/// Wakes the line editor by raising SIGINT, which it handles while it waits for a line.
pub fn interrupt_the_editor() {
    #[cfg(unix)]
    let _ = signal_hook::low_level::raise(signal_hook::consts::SIGINT);
}

/// Whether a signal is ignored. Linux tells in /proc; elsewhere SIGHUP counts as ignored if no standard stream is a terminal, as
/// under `nohup`.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    use std::io::IsTerminal;
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        return mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1);
    }
    let terminal = std::io::stdin().is_terminal() || std::io::stdout().is_terminal() || std::io::stderr().is_terminal();
    signal == signal_hook::consts::SIGHUP && !terminal
}
