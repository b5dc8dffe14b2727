//! Watching keys: questions to the coordinators, each from the position up to which the last answer went.
//!
//! Every partition is followed by a task of its own. It asks for the next change, and the question waits at the server
//! until there is one; while there are more, it asks for many at a time. The position is the client's to know: the next
//! coordinator, after any fail-over, is asked from there on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::clock;
use common::ids::PartitionId;
use common::limits::{KEY_BYTES_MAX, WATCH_HOLD_MAX};
use common::messages::{Change, Reply, Request, Selection};
use common::operation::{InvalidOperation, Version, check_key};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, timeout};

use crate::client::Client;
use crate::error::Error;
use crate::limits::{
    ASK_FOR, LINK_SILENT_FOR, WATCH_FETCH_BYTES, WATCH_FETCHES, WATCH_PAGES_AHEAD, WATCH_VIEW_EVERY,
    WATCH_WAIT, WATCH_WAIT_MANY, WATCHES_WAITING_BYTES, WATCHES_WAITING_MAX,
};
use crate::retry::{Next, Progress, Tried};
use crate::router::Target;

const _: () =
    assert!(WATCH_WAIT.as_millis() <= WATCH_HOLD_MAX.as_millis(), "servers let requests wait for so long");

/// The position in each partition's log up to which changes have been delivered.
pub type Positions = BTreeMap<PartitionId, Version>;

/// Changes of watched keys, as they are committed; see [`Client::watch`].
#[derive(Debug)]
pub struct Watch {
    pages: mpsc::Receiver<PageResult>,
    current: VecDeque<Change>,
    /// The partition of these changes, and the position behind them.
    behind: Option<(PartitionId, Version)>,
    positions: Positions,
    /// They end when this is dropped.
    _tasks: JoinSet<()>,
}

/// A result of a partition's task.
type PageResult = Result<Page, Error>;

/// Changes of one partition, perhaps none.
#[derive(Debug)]
struct Page {
    partition: PartitionId,
    changes: Vec<Change>,
    through: Version,
}

impl Client {
    /// Watches keys from now on: changes that are written after this has returned are delivered.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when a coordinator does not answer in time, [`Error::Invalid`] for a key that none can
    /// be.
    pub async fn watch(&self, keys: Selection) -> Result<Watch, Error> {
        self.watch_from(keys, Positions::new()).await
    }

    /// Watches a key from a version on, as a read or a write has returned it: changes after it come first, as far as
    /// the servers still have them, and a [gap](Change::Gap) stands for the others.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    pub async fn watch_key_from(&self, key: impl Into<Bytes>, version: Version) -> Result<Watch, Error> {
        let key = key.into();
        self.wait_for_servers().await?;
        let positions = Positions::from([(self.view().partitions.of_key(&key), version)]);
        self.watch_from(Selection::Key { key }, positions).await
    }

    /// Watches keys from the positions that another watch has come to ([`Watch::positions`]); partitions that have none
    /// are watched from now on.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    pub async fn watch_from(&self, keys: Selection, positions: Positions) -> Result<Watch, Error> {
        match &keys {
            Selection::Key { key } => check_key(key)?,
            Selection::Prefix { prefix } if prefix.len() > KEY_BYTES_MAX => {
                return Err(InvalidOperation::KeyTooLong(prefix.len()).into());
            }
            Selection::Prefix { .. } => {}
        }
        self.wait_for_servers().await?;
        let partitions = self.view().partitions;
        let watched: Vec<PartitionId> = match &keys {
            Selection::Key { key } => vec![partitions.of_key(key)],
            Selection::Prefix { .. } => partitions.all().collect(),
        };
        let (sender, pages) = mpsc::channel(WATCH_PAGES_AHEAD);
        let (begun, mut begins) = mpsc::channel(watched.len());
        let mut tasks = JoinSet::new();
        let many = watched.len() > WATCHES_WAITING_MAX;
        let shared = Arc::new(Shared {
            client: self.clone(),
            keys,
            wait: if many { WATCH_WAIT_MANY } else { WATCH_WAIT },
            waiting: Semaphore::new(WATCHES_WAITING_MAX),
            fetches: Semaphore::new(WATCH_FETCHES),
            pages: sender,
        });
        for &partition in &watched {
            let position = positions.get(&partition).copied();
            tasks.spawn(begin(Arc::clone(&shared), partition, position, begun.clone()));
        }
        tasks.spawn(keep_view(self.clone()));
        drop((shared, begun));
        let (current, mut positions) = (VecDeque::new(), Positions::new());
        while let Some(begun) = begins.recv().await {
            let (partition, position) = begun?;
            positions.insert(partition, position);
        }
        Ok(Watch { pages, current, behind: None, positions, _tasks: tasks })
    }

    /// Waits until the cluster has servers.
    async fn wait_for_servers(&self) -> Result<(), Error> {
        if self.view().assignments.is_empty() && self.refresh_view().await?.assignments.is_empty() {
            let reason = "the cluster has no servers yet".to_owned();
            return Err(Error::Unavailable { tried: Vec::new(), reason });
        }
        Ok(())
    }
}

impl Watch {
    /// The next change. Those of one partition, and so those of one key, come in the order in which they were made,
    /// each once, and none is left out but for those between the two versions of a [`Change::Gap`]. Partitions have no
    /// order among them. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when a coordinator has not answered for [`Options::timeout`](crate::Options::timeout): it
    /// is asked again in the background, so this may be called again. Any other error ends the watch of a partition.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            if let Some(change) = self.current.pop_front() {
                self.pass(&change);
                return Ok(change);
            }
            let page = self.page().await?;
            self.take(page);
        }
    }

    /// The positions up to which [`next`](Self::next) has delivered changes, for [`Client::watch_from`].
    #[must_use]
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    async fn page(&mut self) -> PageResult {
        let ended = || Err(Error::Refused { reason: "the watch has ended; begin another one".to_owned() });
        self.pages.recv().await.unwrap_or_else(ended)
    }

    fn take(&mut self, page: Page) {
        let Page { partition, changes, through } = page;
        if changes.is_empty() {
            self.positions.insert(partition, through);
            return;
        }
        self.behind = Some((partition, through));
        self.current = changes.into();
    }

    /// Notes a change that is delivered. The position moves on when all changes of its entry are.
    fn pass(&mut self, change: &Change) {
        let Some((partition, through)) = self.behind else { return };
        match self.current.front() {
            None => _ = self.positions.insert(partition, through),
            Some(next) if next.version() != change.version() => {
                self.positions.insert(partition, change.version());
            }
            Some(_) => {}
        }
    }
}

/// What the tasks of a watch share.
#[derive(Debug)]
struct Shared {
    client: Client,
    keys: Selection,
    /// How long a question may wait at a server.
    wait: Duration,
    waiting: Semaphore,
    fetches: Semaphore,
    pages: mpsc::Sender<PageResult>,
}

/// Finds the position where a partition is watched from, and follows it from there.
async fn begin(
    shared: Arc<Shared>,
    partition: PartitionId,
    position: Option<Version>,
    begun: mpsc::Sender<Result<(PartitionId, Version), Error>>,
) {
    let found = match position {
        Some(position) => Ok(position),
        None => {
            let Ok(_turn) = shared.waiting.acquire().await else { return };
            let found = shared.client.changes(&shared.keys, partition, None, 0, Duration::ZERO).await;
            found.map(|(_, through, _)| through)
        }
    };
    let sent = begun.send(found.clone().map(|position| (partition, position))).await;
    drop(begun);
    if let (Ok(found), Ok(())) = (found, sent) {
        follow(&shared, partition, found, position.is_some()).await;
    }
}

/// Follows a partition until the watch is dropped. `more`: there may be changes already.
async fn follow(shared: &Shared, partition: PartitionId, mut position: Version, mut more: bool) {
    let mut bytes = 0;
    loop {
        // A fetch keeps its turn until its changes are taken, which bounds the memory.
        let turns = if more { &shared.fetches } else { &shared.waiting };
        let Ok(_turn) = turns.acquire().await else { return };
        let wait = if more { Duration::ZERO } else { shared.wait };
        let bytes_max = if more { WATCH_FETCH_BYTES.max(bytes) } else { WATCHES_WAITING_BYTES };
        let asked = shared.client.changes(&shared.keys, partition, Some(position), bytes_max, wait);
        let (page, ends) = match asked.await {
            Ok((changes, through, next_bytes)) => {
                more = !changes.is_empty() || next_bytes > 0 || (more && position != through);
                bytes = u32::try_from(next_bytes).unwrap_or(u32::MAX);
                position = through;
                (Ok(Page { partition, changes, through }), false)
            }
            Err(error) => {
                let ends = !matches!(error, Error::Unavailable { .. });
                (Err(error), ends)
            }
        };
        if shared.pages.send(page).await.is_err() || ends {
            return;
        }
    }
}

/// Looks for a newer view at intervals: a server that is cut off from the others does not know that it coordinates no
/// longer.
async fn keep_view(client: Client) {
    let mut ticks = interval_at(Instant::now() + WATCH_VIEW_EVERY, WATCH_VIEW_EVERY);
    loop {
        ticks.tick().await;
        let seen = client.view().number;
        client.router().refresh_if_due(seen, None, 1).await;
    }
}

impl Client {
    /// The next changes of a partition: what they are, the position behind them, and the bytes of the next one if it is
    /// too large. Tries until there is an answer, or none has come for the client's timeout.
    async fn changes(
        &self,
        keys: &Selection,
        partition: PartitionId,
        after: Option<Version>,
        bytes_max: u32,
        wait: Duration,
    ) -> Result<(Vec<Change>, Version, u64), Error> {
        let hold_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let target = Target::Partition(partition);
        let mut progress = Progress::read();
        let mut failing = None;
        loop {
            let route = self.router().route();
            let ours = route.view.number;
            let (server, next) = match route.coordinator(target) {
                None => (None, progress.on_no_coordinator()),
                Some(peer) => {
                    let selection = keys.clone();
                    let request = Request::Watch { partition, after, selection, bytes_max, hold_ms };
                    let tried = match self.send(peer, (request, None), clock::time()).await {
                        Err(reason) => Tried::NotSent(reason),
                        Ok((link, answer)) => match timeout(wait + ASK_FOR, answer).await {
                            Ok(Ok(tried)) => tried,
                            Ok(Err(_)) => Tried::Lost("the connection was closed".to_owned()),
                            Err(_) => {
                                if link.silent_for() > LINK_SILENT_FOR.min(wait + ASK_FOR) {
                                    link.close();
                                }
                                Tried::Lost("it did not answer".to_owned())
                            }
                        },
                    };
                    (Some(peer.address()), progress.on_tried(peer.address(), tried, ours))
                }
            };
            match next {
                Next::Done(Reply::Changes { changes, through, next_bytes }) => {
                    return Ok((changes, through, next_bytes));
                }
                Next::Done(other) => {
                    let (server, what) =
                        (server.unwrap_or_default().to_owned(), format!("it answered {other:?}"));
                    return Err(Error::Incompatible { server, what });
                }
                Next::Fail(error) => return Err(error),
                Next::Again { refresh, wait } => {
                    let since = *failing.get_or_insert_with(clock::time);
                    if !self.pause(since, ours, server, refresh, wait.then_some(&progress)).await {
                        return Err(progress.give_up());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
