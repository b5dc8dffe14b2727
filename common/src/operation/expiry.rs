//! When a value expires. Relative times count from the log time at which they are applied: the same at every copy.

use crate::codec::wire_enum;
use crate::time::WallTime;

/// The expiry that an operation gives a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The value never expires.
    Never {},
    /// At a moment of the wall clock; one that is past removes the value.
    At {
        /// From this moment on the value is gone.
        at: WallTime,
    },
    /// After a time, counted from log time.
    In {
        /// Milliseconds from log time on.
        ms: u64,
    },
    /// The expiry that the value has.
    Keep {},
    /// Later than the expiry that the value has; a value that never expires keeps none.
    Later {
        /// How many milliseconds later.
        ms: u64,
    },
}
wire_enum!(Expiry { 0 => Never {}, 1 => At { at }, 2 => In { ms }, 3 => Keep {}, 4 => Later { ms } });

impl Expiry {
    /// The moment at which a value expires that expired at `current`, in a log whose time is `log_time`.
    #[must_use]
    pub fn moment(self, current: Option<WallTime>, log_time: WallTime) -> Option<WallTime> {
        match self {
            Self::Never {} => None,
            // 0 would be read as never.
            Self::At { at } => Some(at.max(WallTime(1))),
            Self::In { ms } => Some(WallTime(log_time.0.saturating_add(ms))),
            Self::Keep {} => current,
            Self::Later { ms } => current.map(|at| WallTime(at.0.saturating_add(ms))),
        }
    }
}

/// What must hold of the expiry that is there. A value without one counts as expiring after all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryCondition {
    /// Nothing.
    Always {},
    /// There is none.
    None {},
    /// There is one.
    Some {},
    /// It is before the new one.
    Earlier {},
    /// It is after the new one.
    Later {},
    /// There is one, and it is after the new one.
    SomeLater {},
}
wire_enum!(ExpiryCondition {
    0 => Always {}, 1 => None {}, 2 => Some {}, 3 => Earlier {}, 4 => Later {}, 5 => SomeLater {},
});

impl ExpiryCondition {
    /// Whether it holds of `current` beside `new`.
    #[must_use]
    pub fn holds(self, current: Option<WallTime>, new: Option<WallTime>) -> bool {
        let end = |at: Option<WallTime>| at.map_or(u64::MAX, |at| at.0);
        match self {
            Self::Always {} => true,
            Self::None {} => current.is_none(),
            Self::Some {} => current.is_some(),
            Self::Earlier {} => end(current) < end(new),
            Self::Later {} => end(current) > end(new),
            Self::SomeLater {} => current.is_some() && end(current) > end(new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_later_than_any_moment() {
        let (none, soon, late) = (None, Some(WallTime(5)), Some(WallTime(9)));
        assert!(
            !ExpiryCondition::Earlier {}.holds(none, soon) && ExpiryCondition::Later {}.holds(none, soon)
        );
        assert!(!ExpiryCondition::SomeLater {}.holds(none, soon));
        assert!(
            ExpiryCondition::Earlier {}.holds(soon, late) && !ExpiryCondition::Earlier {}.holds(late, soon)
        );
        assert!(ExpiryCondition::SomeLater {}.holds(late, soon));
    }

    #[test]
    fn relative_times_count_from_log_time() {
        let now = WallTime(100);
        assert_eq!(Expiry::In { ms: 7 }.moment(None, now), Some(WallTime(107)));
        assert_eq!(Expiry::Later { ms: 7 }.moment(Some(WallTime(200)), now), Some(WallTime(207)));
        assert_eq!(Expiry::Later { ms: 7 }.moment(None, now), None);
        assert_eq!(Expiry::In { ms: u64::MAX }.moment(None, now), Some(WallTime(u64::MAX)));
        assert_eq!(Expiry::At { at: WallTime(0) }.moment(None, now), Some(WallTime(1)));
    }
}
