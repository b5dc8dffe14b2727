//! Golden scripts of the server's core: `tests/scripts/*.txt`.
//!
//! A line is an input; the indented lines after it are what the cores wanted done.
//! `UPDATE=1 cargo test -p trefoil-kvserver-core --test core_scripts` writes them anew, to be read before it is
//! committed. There is one partition, and servers are letters; those that are started are cores, the others say what
//! the script says. Inputs:
//!
//! - `start SERVER [rate=BYTES_PER_SECOND] [waiting=BYTES]`: a process, with what is on its disk, its limit for copies
//!   and that for writes that wait; `crash SERVER`: all that was not synced is gone; `lost-view SERVER`: so is the file
//!   of its view
//! - `view NUMBER COORDINATOR IN_SYNC [OPTION...]` with `join=SERVERS`, `min=COPIES`, `epoch=N`, `forced=N`,
//!   `resumed=N`, `rebuild=N counted=SERVERS`, `paused`, `unnamed=SERVERS`, `twin=SERVERS`, `to=SERVERS`: a view
//!   reaches servers (all cores); `forced`: an operator let the partition begin anew in that epoch; `rebuild`,
//!   `counted`: of which rebuild of the ECS it is, and whose reports that has counted. Numbers of later generations are
//!   `GENERATION/NUMBER`
//! - `promise SERVER GENERATION REBUILD`: an ECS that is being rebuilt asks; `bug SERVER NAME` before its start: a
//!   planted bug
//! - `put|append SERVER KEY VALUE [as=N]`, `get SERVER KEY [up-to BYTES]`: a client asks; `as` is the number of its
//!   write; `trace` at the end: the request is traced, `anywhere`: it is passed on
//! - `delete SERVER KEY [as=N]`, `put-absent SERVER KEY VALUE [as=N]`, `expire SERVER KEY MILLISECOND`: a client asks
//! - `watch SERVER KEY|PREFIX* [after=PLACE] [up-to=BYTES] [hold=MILLISECONDS]`: a client asks for changes
//! - `durable SERVER`: the disk has all that was written (`disk auto`: always at once)
//! - `deliver FROM TO [COUNT]`, `drop FROM TO [COUNT]`: messages that wait between two cores
//! - `again FROM TO`: the message delivered last from one to the other arrives once more
//! - `say FROM TO MESSAGE`, from a server that is none: `ack SEQ`,
//!   `append PREV ENTRIES... [epoch=N] [sync] [commit=N]`, `sync_request`, `sync_reply BASE LAST [RUNS...]`,
//!   `fetch_request PREV`, `fetch_reply PREV ENTRIES...`, `ahead COMMIT`, `no_newer_view NUMBER`, `ping`, `pong` (to
//!   the last ping), `forward N KEY VALUE`, `relay N KEY [VALUE]`, `refuses N` (a request that was passed on),
//!   `read_index N`, `read_lease_request`, `read_lease MILLISECONDS` (to the last question), `view`,
//!   `digest_request AT`, `digest_reply AT SUM|none`, `differs AT SUM`, `snapshot_begin BASE`,
//!   `snapshot_chunk INDEX STATE|empty [done]`, `snapshot_ack NEXT` (of the first copy of its first process); entries
//!   and places are `TAG.SEQ`
//! - `wiped SERVER`: what it says from here on comes of another store; `restarted SERVER`: of another process. A view
//!   names the processes that run, but for `unnamed=SERVERS`, or with `twin=SERVERS` others of the same incarnation
//! - `hold SERVER staged`: what it stages is told with `staged SERVER` only, one by one
//! - `settle`: all waiting messages and disks, until nothing happens any more
//! - `run MILLISECONDS`: time passes at all cores; `flush SERVER`, `trim SERVER SEQ`: its store
//! - `reads barrier`: servers that are started from here on read without leases
//! - `stopped MILLISECONDS`: time passes, and no core notices it
//! - `compare SERVER`: it has read the partition through; `rot SERVER KEY VALUE`: a record becomes another one, with a
//!   good checksum; `misread SERVER`: its next digest comes out wrong
//! - `bad SERVER KEY`: a record fails its checksum when it is read; `damaged SERVER`: something does that in the
//!   background
//! - `facts SERVER`: where its copy stands

mod core_scripts {
    pub(crate) mod host;
    pub(crate) mod script;
    mod show;
}

use std::path::{Path, PathBuf};

/// Those in `planted` show what planted bugs do.
fn scripts(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let entries = std::fs::read_dir(folder).expect("the folder of scripts");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn scripts_come_out_as_written() {
    let update = std::env::var("UPDATE").is_ok();
    let mut different = Vec::new();
    let planted = if cfg!(feature = "planted-bugs") { scripts("planted") } else { Vec::new() };
    for path in scripts("scripts").into_iter().chain(planted) {
        let text = std::fs::read_to_string(&path).expect("a script");
        let outcome = core_scripts::script::run(&text);
        if outcome == text {
            continue;
        }
        if update {
            std::fs::write(&path, outcome).expect("the script is written anew");
        } else {
            different.push(format!("{}:\n{outcome}", path.display()));
        }
    }
    assert!(
        different.is_empty(),
        "came out otherwise (UPDATE=1 writes them anew):\n{}",
        different.join("\n")
    );
}
