//! The directory is free again when the last handle is gone.

mod support;

use storage::{Options, Store};

#[test]
fn a_store_with_maintenance_threads_can_be_opened_again_and_again() {
    let dir = support::directory();
    let options = Options { segment_bytes: 64 << 10, log_bytes: 256 << 10, ..Options::default() };
    for _ in 0..20 {
        let mut store = Store::open(dir.path(), &options).unwrap();
        store.trees.pre_create(1);
        store.log.close().unwrap();
        drop((store.trees, store.reader));
    }
}
