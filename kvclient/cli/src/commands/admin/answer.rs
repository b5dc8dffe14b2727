//! The ECS's answers as they are printed, and the pause before it is asked again.

use std::io::Write;
use std::time::Duration;

use common::shown;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use crate::frame::failure::Failure;

pub(super) fn print(out: &mut dyn Write, as_json: bool, json: &Value, text: &str) -> Result<(), Failure> {
    let written = if as_json {
        writeln!(out, "{}", shown::json(&format!("{json:#}")))
    } else {
        write!(out, "{}", shown::lines(text.as_bytes()))
    };
    written.and_then(|()| out.flush()).map_err(Failure::output)
}

/// Waits between two looks, as there is no event to wait for.
pub(super) async fn wait(duration: Duration) {
    sleep_until(Instant::now() + duration).await;
}
