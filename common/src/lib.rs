//! What Trefoil's programs share: ids, the hash ring, views, messages and their codec, limits.
//!
//! Values and arithmetic only, but for [`clock`], the one place that reads the machine's clocks, and what programs do
//! with their process when they start ([`config`], [`files`], [`logging`], [`service`]).

pub mod clock;
pub mod codec;
pub mod config;
pub mod figures;
pub mod files;
pub mod frame;
pub mod histogram;
pub mod ids;
pub mod limits;
pub mod logging;
pub mod messages;
pub mod metrics;
pub mod operation;
pub mod ring;
pub mod service;
#[cfg(feature = "otel")]
pub mod spans;
pub mod status;
pub mod time;
pub mod view;
