//! Files into a server and out of it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;

use super::{ExportArgs, ImportArgs, export, import};
use crate::frame::failure::Exit;
use common::messages::Reply;
use common::operation::Operation;
use kvclient::testing::{Action, Fake, Store, key_of, operation_of, view};

#[derive(Parser)]
struct Import {
    #[command(flatten)]
    args: ImportArgs,
}

#[derive(Parser)]
struct Export {
    #[command(flatten)]
    args: ExportArgs,
}

fn import_args(file: &Path, more: &[&str]) -> ImportArgs {
    Import::parse_from(["import", file.to_str().unwrap()].iter().chain(more)).args
}

fn export_args(words: &[&str]) -> ExportArgs {
    Export::parse_from(["export"].iter().chain(words)).args
}

async fn store() -> Fake {
    let mut store = Store::default();
    Fake::alone(move |request| store.handle(request)).await
}

fn file(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path
}

#[tokio::test]
async fn what_is_exported_can_be_imported_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines: Vec<String> =
        (0..500).map(|n| format!("{{\"key\":\"k{n:03}\",\"value\":\"v {n}\"}}\n")).collect();
    lines.push("{\"key_hex\":\"ff\",\"value_base64\":\"/w==\",\"expires_ms\":99}\n".to_owned());
    let input = file(folder.path(), "in.ndjson", lines.concat().as_bytes());
    let (first, second) = (store().await, store().await);
    let client = first.client(10_000).await;
    import(client.clone(), &import_args(&input, &[])).await.unwrap();
    let (mut sorted, mut unsorted) = (Vec::new(), Vec::new());
    export(client.clone(), &export_args(&["-", "--sort"]), false, &mut sorted).await.unwrap();
    assert_eq!(String::from_utf8(sorted).unwrap(), lines.concat());
    export(client.clone(), &export_args(&[]), false, &mut unsorted).await.unwrap();
    assert_ne!(unsorted, lines.concat().as_bytes());

    let mut shown = Vec::new();
    client.put("k!", "\u{1b}[31m\u{9b}2J\u{202e}").await.unwrap();
    export(client.clone(), &export_args(&["-", "--prefix", "k!", "--format", "tsv"]), true, &mut shown)
        .await
        .unwrap();
    assert_eq!(String::from_utf8(shown).unwrap(), "k!\t\\x1b[31m\\u{9b}2J\\u{202e}\n");
    client.delete("k!").await.unwrap();

    let tsv = folder.path().join("out.tsv");
    export(client, &export_args(&[tsv.to_str().unwrap(), "--prefix", "k"]), false, &mut Vec::new())
        .await
        .unwrap();
    let client = second.client(10_000).await;
    import(client.clone(), &import_args(&tsv, &["--jobs", "3"])).await.unwrap();
    let mut again = Vec::new();
    export(client, &export_args(&["-", "--sort"]), false, &mut again).await.unwrap();
    assert_eq!(String::from_utf8(again).unwrap(), lines[..500].concat());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
}

#[tokio::test]
async fn lines_of_one_key_are_written_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let content: String = (0..2000).map(|n| format!("k{}\t{n}\n", n % 7)).collect();
    let input = file(folder.path(), "in.tsv", content.as_bytes());
    let fake = store().await;
    import(fake.client(10_000).await, &import_args(&input, &[])).await.unwrap();
    let mut last = [None; 7];
    for request in fake.requests().iter() {
        let Some(Operation::Put { key, value, .. }) = operation_of(request) else { continue };
        let slot = usize::from(key[1] - b'0');
        let number: u32 = std::str::from_utf8(value).unwrap().parse().unwrap();
        assert!(last[slot] < Some(number));
        last[slot] = Some(number);
    }
    assert_eq!(fake.requests().len(), 2000);
}

#[tokio::test]
async fn a_bad_line_stops_with_its_number_or_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let input = file(folder.path(), "in.tsv", b"a\t1\n\nno tab\nb\t2\n");
    let fake = store().await;
    let client = fake.client(10_000).await;
    let failure = import(client.clone(), &import_args(&input, &[])).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.message.starts_with("line 3: there are 0 tabs"), "{failure}");
    assert!(failure.message.contains("--resume"), "{failure}");
    import(client.clone(), &import_args(&input, &["--skip-bad"])).await.unwrap();
    assert_eq!(client.get("b").await.unwrap().unwrap().value, "2");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let missing = import(client, &import_args(&folder.path().join("missing"), &[])).await.unwrap_err();
    assert_eq!(missing.exit, Exit::Usage);
}

#[tokio::test]
async fn a_stopped_import_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let content: String = (0..1000).map(|n| format!("k{n:03}\t{n}\n")).collect();
    let input = file(folder.path(), "in.tsv", content.as_bytes());
    // The disk is full when k700 comes.
    let mut first_store = Store::default();
    let full = Fake::start(move |request| {
        if key_of(request) >= "k700" {
            return Action::Reply(Reply::Refused { reason: "disk full".into() });
        }
        first_store.handle(request)
    })
    .await;
    full.set_view(view(1, &[&full.address], 0));
    let failure =
        import(full.client(10_000).await, &import_args(&input, &["--jobs", "8"])).await.unwrap_err();
    assert!(failure.message.contains("disk full"), "{failure}");
    let saved = fs::read_to_string(folder.path().join("in.tsv.trefoil-progress")).unwrap();
    assert!(saved.contains("\"lines\":7") || saved.contains("\"lines\":6"), "{saved}");

    let fake = store().await;
    import(fake.client(10_000).await, &import_args(&input, &["--resume"])).await.unwrap();
    let mut written: Vec<_> = full.requests().iter().chain(fake.requests().iter()).map(key_of).collect();
    written.sort_unstable();
    written.dedup();
    assert_eq!(written.len(), 1000, "every line was written by one of the two");
    assert!(fake.requests().len() <= 400 && fake.requests().iter().all(|request| key_of(request) >= "k600"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the checkpoint is gone");
}
