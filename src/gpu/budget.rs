//! How much work a submission may hold, from the time that work takes on this device. A desktop cannot draw while a submission runs,
//! and resets the device after about two seconds.

use super::caps::Caps;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The longest that a submission may take.
pub const LONGEST_SUBMISSION: Duration = Duration::from_millis(100);

/// Bounds of a budget.
const LEAST: u64 = 1 << 20;
const MOST: u64 = 1 << 50;

/// Work that a submission of a plan may hold. Each plan has a budget, because the time of work depends on its kernels.
pub(super) struct Budget {
    work: AtomicU64,
    /// Runs that were submitted and not yet waited for.
    under_way: AtomicU32,
}

impl Budget {
    /// The budget before anything was timed: right for a slow adapter of this kind.
    pub(super) fn first(caps: &Caps) -> Self {
        Self::of(match (caps.cpu, caps.discrete) {
            (true, _) => 500_000_000,
            (false, false) => 10_000_000_000,
            (false, true) => 100_000_000_000,
        })
    }

    fn of(work: u64) -> Self {
        Budget { work: AtomicU64::new(work), under_way: AtomicU32::new(0) }
    }

    /// Counts a submitted run; returns the runs in flight, including it.
    pub(super) fn begin(&self) -> u32 {
        self.under_way.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn end(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> u64 {
        self.work.load(Ordering::Relaxed)
    }

    /// Adjusts the budget to the time that a submission of `work` took.
    pub(super) fn took(&self, work: u64, time: Duration) {
        let (time, longest) = (time.as_secs_f64(), LONGEST_SUBMISSION.as_secs_f64());
        let now = self.now();
        let next = if time > longest {
            // With a margin, because times vary.
            (work as f64 * 0.8 * longest / time) as u64
        } else if time < longest / 2.0 && work > now / 4 {
            now.saturating_mul(2)
        } else {
            return;
        };
        self.work.store(next.clamp(LEAST, MOST), Ordering::Relaxed);
    }

    /// Adjusts the budget to the time that a caller waited for a submission of `work`, with `under_way` runs in flight.
    pub(super) fn waited(&self, work: u64, under_way: u32, time: Duration) {
        let own = time / under_way;
        if own > LONGEST_SUBMISSION {
            self.took(work, own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The budget and the longest submission, in seconds, after some runs on an adapter that does `per_second` work.
    fn simulated(mut budget: u64, per_second: f64) -> (u64, f64) {
        let own = Budget::of(budget);
        let mut longest = 0.0;
        for run in 0..40 {
            for _ in 0..8 {
                budget = own.now();
                let seconds = budget as f64 / per_second;
                own.took(budget, Duration::from_secs_f64(seconds));
                if run >= 2 {
                    longest = f64::max(longest, seconds);
                }
            }
        }
        (own.now(), longest)
    }

    #[test]
    fn a_slow_adapter_gets_short_submissions_and_a_fast_one_long_ones() {
        for first in [LEAST, 500_000_000, 100_000_000_000] {
            for per_second in [1e9, 50e9, 1e12, 100e12] {
                let (budget, longest) = simulated(first, per_second);
                assert!(longest <= LONGEST_SUBMISSION.as_secs_f64(), "{first} {per_second:e}: {longest} s");
                assert!(budget as f64 / per_second > 0.03, "{first} {per_second:e}: {budget} is too small");
            }
        }
    }

    #[test]
    fn a_wait_tells_only_of_what_is_too_slow() {
        let budget = Budget::of(1_000_000_000);
        budget.waited(1_000_000_000, 3, Duration::from_millis(290));
        assert_eq!(budget.now(), 1_000_000_000, "three submissions of 97 ms may have been under way");
        budget.waited(1_000_000_000, 3, Duration::from_secs(3));
        assert!(budget.now() < 100_000_000, "{}", budget.now());
    }
}
