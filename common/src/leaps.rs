//! How far a counter may jump between two messages that carry it. A number beyond that is none that a server or an ECS
//! has counted to. If it were accepted, all genuine numbers after it would look old, for ever.
//!
//! There is no authentication: within these bounds a false number still does harm, but harm that passes, as the real
//! one passes it by.

use crate::ids::{Epoch, Incarnation};

/// Starts of a server that no message reports, at most. One that ends at each start before it has said hello, and is
/// started again each second, needs a day for about as many.
pub const INCARNATION_LEAP_MAX: u64 = 100_000;

/// Views that are made while a server is away, at most: one each 10 ms, the fastest that an ECS makes them, for ten
/// years.
pub const VIEW_LEAP_MAX: u64 = 100 * 86_400 * 365 * 10;

/// Generations that a server has not seen, at most. Each is a rebuild of the ECS, which an operator orders.
pub const GENERATION_LEAP_MAX: u32 = 1000;

/// Whether the incarnation `said` cannot be genuine, where `known` is the last one known of its server.
#[must_use]
pub fn incarnation_leaps(known: Incarnation, said: Incarnation) -> bool {
    said.0.saturating_sub(known.0) > INCARNATION_LEAP_MAX
}

/// Whether no ECS can have made a view of the number `said`, where `known` is the newest known one.
#[must_use]
pub fn view_leaps(known: Epoch, said: Epoch) -> bool {
    generation_leaps(known.generation, said.generation)
        || said.version.saturating_sub(known.version) > VIEW_LEAP_MAX
}

/// Whether the generation `said` cannot be genuine: each is one rebuild of the ECS.
#[must_use]
pub fn generation_leaps(known: u32, said: u32) -> bool {
    said.saturating_sub(known) > GENERATION_LEAP_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_go_on_and_do_not_leap() {
        let epoch = |generation, version| Epoch { generation, version };
        assert!(!incarnation_leaps(Incarnation(7), Incarnation(8)));
        assert!(!incarnation_leaps(Incarnation(8), Incarnation(7)), "an old one is another matter");
        assert!(!incarnation_leaps(Incarnation(7), Incarnation(7 + INCARNATION_LEAP_MAX)));
        assert!(incarnation_leaps(Incarnation(7), Incarnation(8 + INCARNATION_LEAP_MAX)));
        assert!(incarnation_leaps(Incarnation(0), Incarnation(u64::MAX)));
        assert!(!view_leaps(epoch(0, 900), epoch(1, 3)));
        assert!(!view_leaps(epoch(2, 3), epoch(0, 900)));
        assert!(!view_leaps(epoch(0, 5), epoch(GENERATION_LEAP_MAX, 5 + VIEW_LEAP_MAX)));
        assert!(view_leaps(epoch(0, 5), epoch(0, 6 + VIEW_LEAP_MAX)));
        assert!(view_leaps(epoch(0, 5), epoch(0, u64::MAX)));
        assert!(view_leaps(epoch(0, 5), epoch(u32::MAX, 6)));
    }
}
