//! SIGTERM and SIGHUP: somebody wants the program to end.

/// Calls `told` when such a signal comes, from a thread of its own. What was ignored from the start, as `nohup` does it, stays
/// ignored. Only Unix has these signals.
#[cfg(unix)]
pub fn on_termination(mut told: impl FnMut() + Send + 'static) {
    use signal_hook::consts::{SIGHUP, SIGTERM};
    let wanted = [SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal));
    // Where that fails they end the program as ever.
    let Ok(mut signals) = signal_hook::iterator::Signals::new(wanted) else { return };
    std::thread::spawn(move || signals.forever().for_each(|_| told()));
}

#[cfg(not(unix))]
pub fn on_termination(_told: impl FnMut() + Send + 'static) {}

/// Ends a wait for a line as Ctrl-C does: the line editor takes SIGINT while it waits.
pub fn interrupt_the_editor() {
    #[cfg(unix)]
    let _ = signal_hook::low_level::raise(signal_hook::consts::SIGINT);
}

/// Linux tells. Elsewhere: whoever hides the terminals from a program, as `nohup` does, wants it to survive them.
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
