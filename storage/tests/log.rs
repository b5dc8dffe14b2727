//! The log under power cuts, kills, torn sectors, damage and failing disks, on a disk in memory.

#[path = "support/log_model.rs"]
mod model;
mod support;

use bytes::Bytes;
use std::path::Path;
use storage::{DoubtfulEnd, Error, LogId, OpenedLog, Record, Tag};

use model::{Models, apply, end_of, live, matches, open, open_log_on};
use support::{FakeDisk, seeds};

#[test]
fn every_synced_batch_survives_power_cuts_with_sectors_in_any_order() {
    let dir = support::directory();
    let mut doubts = 0;
    for seed in seeds(1_500) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut disk = FakeDisk::default();
        let mut possible = vec![Models::new()];
        let mut torn = false;
        for life in 0..random.usize(2..6) {
            let opened = open_log_on(dir.path(), &disk);
            let OpenedLog { mut writer, reader, recovered, end_in_doubt } = match opened {
                Ok(opened) => opened,
                Err(error) => panic!("SEED={seed}, life {life}: {error}"),
            };
            if let Some(doubt) = &end_in_doubt {
                assert!(torn, "SEED={seed}, life {life}: nothing was torn, but {doubt}");
                doubts += 1;
            }
            let found: Vec<_> = possible.iter().map(|m| matches(m, &recovered, &reader)).collect();
            let Some(which) = found.iter().position(Result::is_ok) else {
                panic!("SEED={seed}, life {life}: {found:?}");
            };
            let models = possible.swap_remove(which);
            possible = live(&mut random, &mut writer, &reader, models);
            let end = random.u8(0..4);
            torn = end > 1;
            disk = match end {
                0 => disk.kill(),
                1 => {
                    writer.close().unwrap();
                    possible.drain(..possible.len() - 1);
                    disk.crash(&mut random)
                }
                _ => disk.crash(&mut random),
            };
        }
    }
    assert!(doubts > 0 || std::env::var("SEED").is_ok(), "power cuts tear batches");
}

#[test]
fn the_next_power_cut_may_come_while_the_store_opens() {
    let dir = support::directory();
    for seed in seeds(300) {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = FakeDisk::default();
        let (mut writer, reader, _) = open(dir.path(), &disk).unwrap();
        let possible = live(&mut random, &mut writer, &reader, Models::new());
        drop((writer, reader));
        let mut disk = if random.bool() { disk.kill() } else { disk.crash(&mut random) };
        for _ in 0..4 {
            // Opening ends at a random sync.
            let cut = disk.files(|f| f.syncs) + random.usize(1..5);
            disk.files(|f| f.fail_sync = Some(cut));
            drop(open(dir.path(), &disk));
            disk = disk.crash(&mut random);
        }
        let (_, reader, recovered) = open(dir.path(), &disk).unwrap_or_else(|e| panic!("SEED={seed}: {e}"));
        let found: Vec<_> = possible.iter().map(|m| matches(m, &recovered, &reader)).collect();
        assert!(found.iter().any(Result::is_ok), "SEED={seed}: {found:?}");
    }
}

fn entry(seq: u64, body: &[u8]) -> Record {
    let id = LogId { tag: Tag { generation: 1, version: 1 }, seq };
    Record::Entry { partition: 0, id, body: Bytes::copy_from_slice(body) }
}

/// Where the bytes of the log lie: the file and the end of what was written.
fn used(disk: &FakeDisk) -> Vec<(std::path::PathBuf, usize)> {
    let end = |bytes: &[u8]| bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    disk.paths().into_iter().map(|p| (p.clone(), end(&disk.content(&p)))).collect()
}

#[test]
fn cut_at_every_byte_what_lies_before_the_cut_is_there() {
    let dir = support::directory();
    let disk = FakeDisk::default();
    let (mut writer, _, _) = open(dir.path(), &disk).unwrap();
    let mut ends = Vec::new();
    for seq in 1..=12 {
        writer.append(&[entry(seq, &vec![seq as u8; 37 * seq as usize])]).unwrap();
        ends.push(used(&disk)[0].1);
    }
    drop(writer);
    let disk = disk.settled();
    let (path, end) = used(&disk)[0].clone();
    for cut in 512..end {
        let disk = disk.settled();
        disk.edit(&path, |bytes| bytes[cut..].fill(0));
        let (_, _, recovered) = open(dir.path(), &disk).unwrap();
        let expected = ends.iter().filter(|e| **e <= cut).count() as u64;
        let last = recovered.get(&0).map_or(0, |p| p.last);
        assert!(last == expected || last == expected + 1, "cut at {cut}: {last} of {expected}");
    }
}

#[test]
fn a_flipped_byte_in_what_was_synced_is_refused_with_file_and_offset() {
    let dir = support::directory();
    let disk = FakeDisk::default();
    let (mut writer, reader, _) = open(dir.path(), &disk).unwrap();
    let mut models = Models::new();
    for seq in 1..=60 {
        let record = entry(seq, &vec![seq as u8; 10 * seq as usize]);
        apply(&mut models, &record);
        writer.append(&[record]).unwrap();
        writer.sync().unwrap();
    }
    writer.close().unwrap();
    drop(reader);
    let disk = disk.settled();
    let files = used(&disk);
    assert!(files.len() >= 2, "more than one segment");
    let mut refused = 0;
    for (path, end) in &files {
        for at in (0..*end).step_by(3) {
            let damaged = disk.settled();
            damaged.edit(path, |bytes| bytes[at] ^= 0x40);
            match open(dir.path(), &damaged) {
                Err(Error::Damaged { file, offset: Some(offset), .. }) => {
                    assert!(&file == path && offset <= at as u64, "{at}: {offset} of {}", file.display());
                    refused += 1;
                }
                Err(error) => panic!("{} at {at}: {error}", path.display()),
                // Padding, or the closing batch itself: nothing is missing.
                Ok((_, reader, recovered)) => matches(&models, &recovered, &reader).unwrap(),
            }
        }
    }
    assert!(refused > 5_000, "{refused}");
}

/// A log of some entries, each synced, as a killed server leaves it; where the last batch begins and ends in its file.
fn killed(dir: &Path, vouched: bool) -> (FakeDisk, std::path::PathBuf, std::ops::Range<usize>) {
    const ENTRIES: u64 = 9;
    let disk = FakeDisk::default();
    let (mut writer, _, _) = open(dir, &disk).unwrap();
    let mut from = 0;
    for seq in 1..=ENTRIES {
        from = used(&disk)[0].1.next_multiple_of(8);
        // Several records in the last one, over more than a sector.
        let batch = if seq < ENTRIES {
            vec![entry(seq, &[seq as u8; 90])]
        } else {
            (seq..seq + 8).map(|seq| entry(seq, &[seq as u8; 500])).collect()
        };
        writer.append(&batch).unwrap();
        writer.sync().unwrap();
    }
    let (path, end) = used(&disk)[0].clone();
    if vouched {
        assert!(!writer.is_vouched());
        writer.vouch().unwrap();
        assert!(writer.is_vouched());
        let before = disk.files(|files| files.syncs);
        writer.vouch().unwrap();
        assert_eq!(disk.files(|files| files.syncs), before, "once is enough");
    }
    drop(writer);
    (disk.settled(), path, from..end)
}

#[test]
fn a_flipped_bit_in_the_last_batch_of_an_idle_log_is_damage() {
    let dir = support::directory();
    let (disk, path, last) = killed(dir.path(), true);
    for at in last.clone() {
        let damaged = disk.settled();
        damaged.edit(&path, |bytes| bytes[at] ^= 1 << (at % 8));
        match end_of(dir.path(), &damaged) {
            Err(Error::Damaged { file, offset: Some(offset), .. }) => {
                assert_eq!((file, offset), (path.clone(), last.start as u64), "{at}");
            }
            // Padding behind a record.
            Ok(end) => assert_eq!(end, (16, None), "{at}"),
            Err(error) => panic!("{at}: {error}"),
        }
    }
}

#[test]
fn a_last_batch_that_nothing_vouches_for_is_left_out_and_reported_as_doubtful() {
    let dir = support::directory();
    let (disk, path, last) = killed(dir.path(), false);
    assert_eq!(end_of(dir.path(), &disk.settled()).unwrap(), (16, None));
    let doubt = Some(DoubtfulEnd { file: path.clone(), offset: last.start as u64 });
    let flips = last.clone().map(|at| at..at + 1);
    // A sector with the header in it, and one behind it.
    let header = last.start / 512 * 512 + 512;
    let mut padding = 0;
    for lost in flips.chain([last.start..header, header..header + 512]) {
        let whole = lost.len() == 1;
        let damaged = disk.settled();
        damaged.edit(&path, |bytes| match &mut bytes[lost.clone()] {
            [byte] => *byte ^= 1 << (lost.start % 8),
            sector => sector.fill(0),
        });
        let found = end_of(dir.path(), &damaged).unwrap();
        if found == (16, None) && whole {
            padding += 1;
        } else {
            assert_eq!(found, (8, doubt.clone()), "{lost:?}");
            // What was there is gone: the next start doubts nothing.
            assert_eq!(end_of(dir.path(), &damaged).unwrap(), (8, None), "{lost:?}");
        }
    }
    assert!(padding < 8 * 8, "{padding}");
}

#[test]
fn a_missing_or_shortened_segment_is_refused() {
    let dir = support::directory();
    let disk = FakeDisk::default();
    let (mut writer, reader, _) = open(dir.path(), &disk).unwrap();
    for seq in 1..=60 {
        writer.append(&[entry(seq, &[7; 1_000])]).unwrap();
    }
    writer.close().unwrap();
    drop(reader);
    let disk = disk.settled();
    let paths = disk.paths();
    // Without its first segments a log looks trimmed: that is noticed where it meets the trees.
    for path in &paths[1..paths.len() - 1] {
        let damaged = disk.settled();
        storage::disk::Disk::remove(&damaged, path).unwrap();
        assert!(matches!(open(dir.path(), &damaged), Err(Error::Damaged { .. })), "{}", path.display());
    }
    for path in &paths {
        let damaged = disk.settled();
        damaged.edit(path, |bytes| bytes.truncate(5_000));
        assert!(matches!(open(dir.path(), &damaged), Err(Error::Damaged { file, .. }) if &file == path));
    }
}

#[test]
fn a_failed_fsync_closes_the_log_and_loses_nothing_acknowledged() {
    let dir = support::directory();
    for fail in 1..40 {
        let disk = FakeDisk::default();
        let (mut writer, reader, _) = open(dir.path(), &disk).unwrap();
        let first = disk.files(|f| f.syncs);
        disk.files(|f| f.fail_sync = Some(first + fail));
        let mut acknowledged = 0;
        for seq in 1.. {
            let appended = writer.append(&[entry(seq, &[1; 900])]);
            match appended.and_then(|()| writer.sync()) {
                Ok(()) => acknowledged = seq,
                Err(error) => {
                    assert!(matches!(error, Error::Io { .. }), "{error}");
                    break;
                }
            }
        }
        // A spare that could not be made leaves the log open, a failed sync of data closes it.
        if let Err(error) = writer.append(&[]).and_then(|()| writer.sync()) {
            assert!(matches!(error, Error::Poisoned { .. } | Error::Io { .. }), "{error}");
        }
        drop((writer, reader));
        let disk = disk.crash(&mut fastrand::Rng::with_seed(fail as u64));
        let (_, _, recovered) = open(dir.path(), &disk).unwrap();
        assert!(recovered.get(&0).map_or(0, |p| p.last) >= acknowledged);
    }
}

#[test]
fn a_failed_write_closes_the_log_unless_the_disk_is_full_and_nothing_was_written() {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    let dir = support::directory();
    for (bytes, number) in
        [(0, ENOSPC), (1, ENOSPC), (200, ENOSPC), (0, EIO), (40_000, ENOSPC), (12_345, EIO)]
    {
        let disk = FakeDisk::default();
        let (mut writer, reader, _) = open(dir.path(), &disk).unwrap();
        writer.append(&[entry(1, b"first")]).unwrap();
        writer.sync().unwrap();
        disk.files(|f| f.fail_write = Some((bytes, number)));
        let (mut last, mut error) = (1, None);
        while error.is_none() {
            match writer.append(&[entry(last + 1, &[3; 300])]).and_then(|()| writer.sync()) {
                Ok(()) => last += 1,
                Err(e) => error = Some(e),
            }
        }
        let error = error.unwrap();
        disk.files(|f| f.fail_write = None);
        if matches!(error, Error::DiskFull { .. }) {
            assert_eq!(number, ENOSPC);
            writer.append(&[entry(last + 1, b"room again")]).unwrap();
            writer.sync().unwrap();
            last += 1;
        } else {
            let again = writer.append(&[entry(last + 1, b"")]).and_then(|()| writer.sync());
            assert!(bytes > 0 || number == EIO, "{error}");
            assert!(matches!(again, Err(Error::Poisoned { .. })) || again.is_ok(), "{again:?}");
        }
        drop((writer, reader));
        let (_, _, recovered) = open(dir.path(), &disk.crash(&mut fastrand::Rng::with_seed(1))).unwrap();
        assert!(recovered[&0].last >= last);
    }
}

#[test]
fn a_torn_tail_never_comes_back_behind_a_later_batch() {
    const RECORD: usize = 32;
    const HEADER: usize = 32;
    let dir = support::directory();
    let disk = FakeDisk::default();
    let (mut writer, _, _) = open(dir.path(), &disk).unwrap();
    for seq in 1..=3 {
        writer.append(&[entry(seq, &[seq as u8; 200])]).unwrap();
    }
    drop(writer);
    let (disk, path) = (disk.settled(), disk.paths()[0].clone());
    // Of three un-synced batches the first is torn, the others are whole.
    disk.edit(&path, |bytes| {
        let at = bytes.windows(200).position(|w| w == [1; 200]).unwrap();
        bytes[at] ^= 1;
    });
    let (mut writer, _, recovered) = open(dir.path(), &disk).unwrap();
    assert!(recovered.is_empty());
    // The start wrote an empty batch. One more, up to where the third began, which would be next.
    let body = vec![9; 2 * (HEADER + RECORD + 200) - HEADER - HEADER - RECORD];
    writer.append(&[entry(1, &body)]).unwrap();
    writer.sync().unwrap();
    drop(writer);
    let (_, _, recovered) = open(dir.path(), &disk).unwrap();
    assert_eq!(recovered[&0].last, 1);
}

#[test]
fn a_torn_batch_is_not_completed_by_what_an_older_one_left_behind() {
    let dir = support::directory();
    let disk = FakeDisk::default();
    let (mut writer, _, _) = open(dir.path(), &disk).unwrap();
    let start = used(&disk)[0].1;
    writer.append(&[entry(1, &[1; 600]), entry(2, b"of a life before, never synced")]).unwrap();
    drop(writer);
    let path = disk.paths()[0].clone();
    let disk = disk.settled();
    // Its header and first record did not reach the disk.
    let second = |bytes: &[u8]| bytes.windows(3).position(|w| w == b"of ").unwrap() - 32;
    disk.edit(&path, |bytes| {
        let end = second(bytes);
        bytes[start.next_multiple_of(8)..end].fill(0);
    });
    let before = disk.content(&path);
    let (mut writer, _, recovered) = open(dir.path(), &disk).unwrap();
    assert!(recovered.is_empty());
    // The same offset for the second record: 32 bytes less, which the batch of the start took.
    writer.append(&[entry(1, &[2; 568]), entry(2, b"of this life, and not written!")]).unwrap();
    drop(writer);
    let disk = disk.settled();
    let at = second(&disk.content(&path));
    assert_eq!(at, second(&before));
    let (_, _, recovered) = open(dir.path(), &disk.settled()).unwrap();
    assert_eq!(recovered[&0].last, 2, "whole");
    // The sector with the second record keeps what was there before.
    disk.edit(&path, |bytes| bytes[at..at + 64].copy_from_slice(&before[at..at + 64]));
    let (_, _, recovered) = open(dir.path(), &disk).unwrap();
    assert!(recovered.is_empty(), "{recovered:?}");
}

#[test]
fn what_a_value_holds_cannot_pass_for_a_part_of_the_log() {
    // The content of a whole log, headers and all, written into a value of another one.
    let dir = support::directory();
    let disk = FakeDisk::default();
    let (mut writer, _, _) = open(dir.path(), &disk).unwrap();
    writer.append(&[entry(1, b"inner")]).unwrap();
    writer.sync().unwrap();
    writer.close().unwrap();
    let inner = disk.content(&disk.paths()[0])[512..2_048].to_vec();
    let disk = FakeDisk::default();
    let (mut writer, _, _) = open(dir.path(), &disk).unwrap();
    writer.append(&[entry(1, b"kept")]).unwrap();
    writer.sync().unwrap();
    writer.append(&[entry(2, &inner)]).unwrap();
    drop(writer);
    let path = disk.paths()[0].clone();
    let disk = disk.settled();
    // The header of the last batch is torn, its body is whole.
    disk.edit(&path, |bytes| {
        let header = bytes.windows(4).position(|w| w == b"kept").unwrap();
        bytes[header + 8..header + 40].fill(0);
    });
    let (_, _, recovered) = open(dir.path(), &disk).unwrap();
    assert_eq!(recovered[&0].last, 1);
}

#[test]
fn a_batch_too_large_is_refused_and_leaves_no_trace() {
    let dir = support::directory();
    let disk = FakeDisk::default();
    let (mut writer, _, _) = open(dir.path(), &disk).unwrap();
    let max = writer.batch_bytes_max() as usize;
    writer.append(&[entry(1, &vec![1; max - 32])]).unwrap();
    assert!(matches!(writer.append(&[entry(2, &vec![1; max])]), Err(Error::TooLarge { .. })));
    let max = writer.batch_bytes_max() as usize;
    writer.append(&[entry(2, &vec![1; max - 32])]).unwrap();
    writer.sync().unwrap();
}
