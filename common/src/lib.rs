//! What Trefoil's programs share: ids, the hash ring, views, messages and their codec, limits.
//!
//! Values and arithmetic only, but for [`clock`], the one place that reads the machine's clocks, connections
//! (`stream`), which the feature `net` brings, and what programs do with their process (`config`, `files`, `logging`,
//! `metrics`, `service`), which the feature `program` brings.

pub mod address;
pub mod clock;
pub mod codec;
#[cfg(feature = "program")]
pub mod config;
pub mod duration;
pub mod figures;
#[cfg(feature = "program")]
pub mod files;
pub mod frame;
pub mod histogram;
pub mod ids;
pub mod leaps;
pub mod limits;
#[cfg(feature = "program")]
pub mod logging;
pub mod messages;
#[cfg(feature = "program")]
pub mod metrics;
pub mod operation;
pub mod ring;
#[cfg(feature = "program")]
pub mod service;
pub mod shown;
#[cfg(feature = "otel")]
pub mod spans;
pub mod status;
#[cfg(feature = "net")]
pub mod stream;
pub mod time;
pub mod view;
