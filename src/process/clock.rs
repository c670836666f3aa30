//! The clock, as a value that is handed in, so that tests choose the time.

use crate::model::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// How long this machine has been up: nobody sets it, and time asleep counts. Comparable between processes as
    /// long as the boot is the same.
    fn up(&self) -> Uptime;
}

/// A point on a clock that only goes forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uptime {
    /// Which boot of the machine it belongs to; empty where the system does not say.
    pub boot: String,
    /// The time since then.
    pub since_boot: Duration,
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one home of the clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn up(&self) -> Uptime {
        use nix::time::{ClockId, clock_gettime};
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let clock = ClockId::CLOCK_BOOTTIME;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let clock = ClockId::CLOCK_MONOTONIC;
        let since_boot = clock_gettime(clock).map(Duration::from).unwrap_or_default();
        Uptime { boot: super::identity::boot_id(), since_boot }
    }
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that says `now`.
    pub const fn new(now: Timestamp) -> Self {
        Self(AtomicU64::new(now.0))
    }

    /// Moves it on by `millis`.
    pub fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn up(&self) -> Uptime {
        let since_boot = Duration::from_millis(self.0.load(Ordering::Relaxed));
        Uptime { boot: "manual".to_owned(), since_boot }
    }
}
