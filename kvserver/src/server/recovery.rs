//! Opening a store: what of it is used, and what the core begins with.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::clock;
use common::ids::{ClientId, PartitionId};
use common::messages::ProcessId;
use common::view::View;
use kvserver_core::{COPY_FROM, Config, Node, PARKED_BYTES_MAX, PENDING_BYTES_MAX, RecoveredCopy};
use storage::LogWriter;

use super::files::Files;
use crate::error::{Error, Failure, condemns};
use crate::options::Options;
use crate::store::identity;
use crate::store::state_machine::StateMachine;

/// A store that was opened, and its recovered state.
pub(super) struct Found {
    log: LogWriter,
    machine: StateMachine,
    copies: BTreeMap<PartitionId, RecoveredCopy>,
}

/// Opens the store and reads its state; or returns the reason why it must not be used as it is (R3).
pub(super) fn open_store(options: &Options, files: Files) -> Result<Result<Found, String>, Error> {
    let dir = &options.dir;
    common::files::private_dir(dir).map_err(|source| Error::Directory { dir: dir.clone(), source })?;
    identity::check_versions(dir)?;
    if let Some(reason) = identity::condemned(dir)? {
        return Ok(Err(reason));
    }
    let opened = match storage::Store::open(dir, &store_options(options, files)) {
        Ok(opened) => opened,
        Err(error) if condemns(&error) => return Ok(Err(error.to_string())),
        Err(error) => return Err(Error::storage(dir)(error)),
    };
    match StateMachine::new(opened.trees, opened.reader, opened.recovered) {
        Ok((machine, copies)) => Ok(Ok(Found { log: opened.log, machine, copies })),
        Err(Failure::Damaged(reason) | Failure::Store(reason)) => Ok(Err(reason)),
        Err(Failure::DiskFull(reason)) => Err(Error::NoRoom { reason }),
        Err(Failure::Stopped(reason)) => Err(Error::Stopped { reason }),
    }
}

fn store_options(options: &Options, files: Files) -> storage::Options {
    storage::Options {
        open_files: files.trees,
        log_bytes: options.log_mb << 20,
        cache_bytes: (options.cache_mb << 20) / 2,
        values_bytes: (options.cache_mb << 20) / 2,
        reserve_bytes: options.reserve_mb << 20,
        ..storage::Options::default()
    }
}

/// The core as it begins, with what the disk says.
pub(super) struct Recovered {
    pub(super) me: ProcessId,
    /// The last view that was in use.
    pub(super) view: Option<Arc<View>>,
    pub(super) node: Node,
    pub(super) machine: StateMachine,
    pub(super) log: LogWriter,
}

impl Found {
    /// Begins a new incarnation of this server.
    ///
    /// # Errors
    /// When a file of its identity cannot be read or written.
    pub(super) fn begin(self, options: &Options) -> Result<Recovered, Error> {
        let dir = &options.dir;
        let Self { log, machine, copies } = self;
        let me = identity::begin(dir)?;
        let view = identity::read_view(dir)?;
        if identity::lacks_view(dir, !copies.is_empty()) {
            tracing::warn!(
                "there are copies of partitions in {}, but no view of the cluster: its file was removed. It is \
                 fetched anew from the ECS",
                dir.display()
            );
        }
        tracing::info!(server = %me.server, incarnation = me.incarnation.0, copies = copies.len(), "store opened");
        let node = Node::new(config(options), me, view.clone(), copies, clock::now());
        let node = node.promised(identity::read_promise(dir, me.store)?);
        Ok(Recovered { me, view, node, machine, log })
    }
}

fn config(options: &Options) -> Config {
    Config {
        timers: options.timers.timers(),
        park: options.park(),
        reads: options.reads.into(),
        value_bytes_max: options.max_value,
        pending_bytes_max: PENDING_BYTES_MAX,
        parked_bytes_max: PARKED_BYTES_MAX,
        session: ClientId::random(),
        transfer_rate: options.transfer_rate,
        copy_from: COPY_FROM,
        bug: None,
    }
}
