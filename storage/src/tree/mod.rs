//! The trees: one per partition, with the keys and values that committed entries produced.
//!
//! A tree is in memory first ([`Trees::apply`]), without fsync: the log has it. [`Trees::seal`] ends a memory table
//! together with the log position and the caller's state that belong to it, the maintenance thread writes it out in one
//! atomic step, and the log may drop its entries. So after a start a tree has exactly the entries up to its `applied`,
//! and the caller replays the rest.
//!
//! A partition's tree can be replaced by a staged one: [`Trees::stage`], [`Staging::put`],
//! [`Staging::finish`], then `Record::Install` in the log, synced, then [`Trees::install`].
//! The log decides which folder is the tree: even generations grew from the log, odd ones were
//! staged, and at a start every folder that the log does not name is removed.

mod due;
mod due_keys;
mod maintenance;
mod partition;
mod pre_create;
mod scan;
mod slot;
mod snapshot;
mod stage;
mod trees;
mod value_cache;
mod value_codec;
mod version_file;

pub(crate) use partition::{PartitionTree, TreeContext, folder_name, parse_folder, sync_dir};
pub use scan::Page;
pub use snapshot::{Chunk, Snapshot};
pub use stage::Staging;
pub use trees::{Statistics, Trees};
