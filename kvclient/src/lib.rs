//! Trefoil's client: a library that hides where keys are and retries what can be retried. The program `kvclient`
//! (shell, one-shot commands, import, export, benchmark) is made of it.
//!
//! ```no_run
//! # async fn example() -> Result<(), kvclient::Error> {
//! use kvclient::{Client, Options};
//!
//! let client = Client::connect(["localhost:5001"], Options::default()).await?;
//! client.put("fruit", "apple").await?;
//! let found = client.get("fruit").await?.expect("it was just put");
//! let outcome = client.put("fruit", "pear").if_version(found.version).await?;
//! println!("{outcome:?}");
//! # Ok(())
//! # }
//! ```
//!
//! Changes are delivered as they are committed:
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
//! in each write. The decision after each try is a pure state machine in `retry`. The library keeps no data.
//! A guide with examples is `docs/rust-client.md`.

mod batch;
mod change;
mod client;
mod error;
mod limits;
mod link;
mod lock;
mod many;
mod numbers;
mod options;
mod peer;
mod request_loop;
mod retry;
#[cfg(feature = "otel")]
mod root_span;
mod router;
mod scan;
mod status;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod verify;
mod watch;

pub use batch::{Batch, BatchOutcome};
pub use change::{Added, Appended, Delete, DeleteIf, Put, PutIf};
pub use client::Client;
pub use common::ids::{ClientId, ClusterId, Epoch, PartitionId, RequestId, ServerId, StoreId};
pub use common::messages::{Change, Digest, Selection};
pub use common::operation::{Condition, Expiry, Found, InvalidOperation, Operation, Outcome, Pair, Version};
#[cfg(feature = "otel")]
pub use common::spans::Spans;
pub use common::status::{ClusterStatus, ServerStatus};
pub use common::time::WallTime;
pub use common::view::{Assignment, KeyRange, Member, ServerInfo, ServerState, View};
pub use error::Error;
pub use lock::Lock;
pub use options::{Options, ReadFrom};
pub use scan::{Page, Scan};
pub use verify::{Comparison, CopyDigest};
pub use watch::{Positions, Watch};
