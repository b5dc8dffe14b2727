//! Locks against real servers, over the death of their holders and of coordinators.

use std::time::Duration;

use kvclient::Client;

use crate::support::cluster::Cluster;
use crate::support::db::options;
use crate::support::wait::{SOON, wait_until};

/// A renewal has two thirds of it, also on a busy machine.
const LEASE: Duration = Duration::from_secs(3);

#[test]
fn a_lock_goes_from_holder_to_holder() {
    let mut cluster = Cluster::start(3);
    let db = cluster.client();
    let other = db.block(Client::connect(&cluster.seeds(), options())).unwrap();
    let lock = db.block(db.client.lock("lock", LEASE)).unwrap();
    let first = lock.fencing();

    // It is renewed: two leases later it is still held.
    let tried = db.block(async { tokio::time::timeout(LEASE * 2, other.lock("lock", LEASE)).await });
    assert!(tried.is_err() && lock.is_held());

    // The next one has it as soon as it is released.
    let next = db.block(async { tokio::join!(other.lock("lock", LEASE), lock.release()) });
    let (lock, released) = (next.0.unwrap(), next.1.unwrap());
    assert!(released && lock.fencing() > first);
    let second = lock.fencing();

    // A fail-over of its partition does not lose it, if the lease is longer than that takes.
    assert!(db.block(lock.release()).unwrap());
    let lock = db.block(other.lock("lock", SOON)).unwrap();
    let third = lock.fencing();
    assert!(third > second);
    let view = other.view();
    let coordinator = view.assignment(view.partitions.of_key(b"lock")).unwrap().coordinator;
    let address = &view.servers[&coordinator].address;
    let index = cluster.seeds().iter().position(|seed| seed == address).expect("a server of the cluster");
    cluster.kill_server(index);
    assert!(db.block(db.client.try_lock("lock", LEASE)).unwrap().is_none());
    assert!(lock.is_held());
    assert!(db.block(lock.release()).unwrap());
    let lock = db.block(db.client.lock("lock", LEASE)).unwrap();
    assert!(lock.fencing() > third);

    // A holder that dies is waited for no longer than its lease.
    let fourth = lock.fencing();
    drop(lock);
    let lock = db.block(other.lock("lock", LEASE)).unwrap();
    assert!(lock.fencing() > fourth);

    // Whoever removes the key takes the lock away, and the holder hears of it.
    db.block(db.client.delete("lock")).unwrap();
    db.block(lock.lost());
    assert!(!lock.is_held());
    assert!(!db.block(lock.release()).unwrap());
    wait_until("it is free", SOON, || db.get("lock").is_none());
}
