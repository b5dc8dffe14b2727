//! Trefoil's client: a library that hides where keys are and retries what can be retried, and the program
//! `kvclient` (shell, one-shot commands, import, export, benchmark) on top of it.
//!
//! ```no_run
//! # async fn example() -> Result<(), kvclient::Error> {
//! use kvclient::{Client, Options};
//!
//! let client = Client::connect(&["localhost:5001".to_owned()], Options::default()).await?;
//! client.put("fruit", "apple").await?;
//! let found = client.get("fruit").await?.expect("it was just put");
//! client.compare_and_set_version("fruit", found.version, "pear").await?;
//! # Ok(())
//! # }
//! ```
//!
//! Changes are told as they are committed:
//!
//! ```no_run
//! # async fn example(client: kvclient::Client) -> Result<(), kvclient::Error> {
//! use kvclient::{Change, Selection};
//!
//! let mut watch = client.watch(Selection::Prefix { prefix: "fruit/".into() }).await?;
//! loop {
//!     match watch.next().await? {
//!         Change::Put { key, found } => println!("{key:?} is {:?} since {}", found.value, found.version),
//!         Change::Expiry { key, found } => println!("{key:?} ends at {:?}", found.expires),
//!         Change::Delete { key, version } => println!("{key:?} is gone since {version}"),
//!         Change::Gap { from, to } => println!("read again: changes after {from} to {to} are not known"),
//!     }
//! }
//! # }
//! ```
//!
//! A request goes through three parts: [`Client`] numbers it and tries until it is answered, the router finds
//! the coordinator in the newest view it knows, and a link carries the requests of all tasks to one server, many
//! in each write. What is decided after each try is a pure state machine in `retry`. The library keeps no data.
//! A guide with examples is `docs/rust-client.md`.

pub mod bench;
mod calls;
pub mod cli;
mod client;
mod error;
mod limits;
mod link;
mod numbers;
mod options;
mod peer;
mod retry;
#[cfg(feature = "otel")]
mod root_span;
mod router;
mod scan;
mod status;
#[cfg(test)]
mod testing;
mod transfer;
mod verify;
mod watch;

pub use client::{Appended, Client};
pub use common::ids::PartitionId;
pub use common::messages::{Change, Selection};
pub use common::operation::{Condition, Found, Operation, Outcome, Pair, Version};
#[cfg(feature = "otel")]
pub use common::spans::Spans;
pub use common::time::WallTime;
pub use error::Error;
pub use options::{Options, ReadFrom};
pub use scan::{Page, Scan};
pub use verify::{Comparison, CopyDigest};
pub use watch::{Places, Watch};
