//! x
pub mod planner;
