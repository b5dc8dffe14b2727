//! The shell as a person has it: through a terminal, key by key.

use std::process::Command;

use crate::support::cluster::Cluster;
use rexpect::session::{PtySession, spawn_command};

/// For the shell to show what is awaited, in milliseconds.
const SHOWN_WITHIN_MS: u64 = 30_000;

const PROMPT: &str = "kvclient> ";

fn shell(server: &str, home: &std::path::Path) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvclient"));
    command.args(["-s", server]).env("XDG_STATE_HOME", home).env("TERM", "xterm").env("NO_COLOR", "1");
    let mut shell = spawn_command(command, Some(SHOWN_WITHIN_MS)).expect("the shell starts");
    shell.exp_string(PROMPT).expect("a prompt");
    shell
}

/// Types keys, and waits until something is shown.
fn type_and_see(shell: &mut PtySession, keys: &str, shown: &str) {
    shell.send(keys).and_then(|_| shell.flush()).expect("the shell reads");
    shell.exp_string(shown).unwrap_or_else(|error| panic!("after {keys:?} no {shown:?}: {error}"));
}

#[test]
fn what_is_typed_is_completed_hinted_and_remembered() {
    let cluster = Cluster::start(3);
    let address = cluster.addresses()[0].to_string();
    let db = cluster.client();
    db.put("fruit/apple", "red");
    db.put("fruit/pear and plum", "blue");
    let home = tempfile::tempdir().unwrap();
    let mut shell = shell(&address, home.path());
    let shell = &mut shell;

    // The words that are missing stand behind the cursor.
    type_and_see(shell, "put", " KEY VALUE [--if-absent | --if-present] [--ttl TIME]");
    type_and_see(shell, "\u{15}ge", "t KEY");
    // A name, then a key: the only one that begins so.
    type_and_see(shell, "\t", "get ");
    type_and_see(shell, "fruit/a\t", "fruit/apple ");
    type_and_see(shell, "\r", "red");
    // Of two keys, both are shown; the one with blanks in quotes.
    type_and_see(shell, "get \"fruit/p\t", "\"fruit/pear and plum\" ");
    type_and_see(shell, "\r", "blue");
    type_and_see(shell, "put k v --i\t\t", "--if-present");
    type_and_see(shell, "a\t", "--if-absent ");
    type_and_see(shell, "\r", "OK  version ");
    type_and_see(shell, "", "copies, ");
    // An error stands under its word.
    type_and_see(shell, "gte k\r", "^^^ unknown command `gte`; did you mean `get`?");
    // What was pasted may be several lines.
    type_and_see(shell, "\u{1b}[200~put pasted one\nget pasted\u{1b}[201~\r", "OK  version ");
    type_and_see(shell, "", "one\r\n");
    // What is typed while a command runs is not lost.
    type_and_see(shell, "put ahead 1\rput ahead 2\rget ahead\r", "OK  version ");
    type_and_see(shell, "", "OK  version ");
    type_and_see(shell, "", "\r\n2\r\n");
    // A line that begins with a blank is not remembered; others are found.
    type_and_see(shell, " get hidden\r", "no value for `hidden`");
    type_and_see(shell, "\u{12}fruit/a", "get fruit/apple");
    type_and_see(shell, "\r", "red");
    type_and_see(shell, ":watch 100ms get fruit/apple\r", "red");
    type_and_see(shell, "", "red");
    type_and_see(shell, "\u{3}", PROMPT);
    // Ctrl-C drops what was typed, any number of times; only on an empty line the second in a row leaves.
    for _ in 0..3 {
        type_and_see(shell, "put k unfinished", "unfinished");
        type_and_see(shell, "\u{3}", PROMPT);
    }
    type_and_see(shell, "\u{3}", "(Ctrl-C again or `quit` leaves)");
    type_and_see(shell, "", PROMPT);
    type_and_see(shell, "put k unfinished", "unfinished");
    type_and_see(shell, "\u{3}", PROMPT);
    type_and_see(shell, "get fruit/apple\r", "red");
    type_and_see(shell, "\u{3}", "(Ctrl-C again or `quit` leaves)");
    type_and_see(shell, "", PROMPT);
    shell.send("\u{3}").and_then(|_| shell.flush()).unwrap();
    shell.exp_eof().expect("it ends");
    let history = std::fs::read_to_string(home.path().join("trefoil/history")).unwrap();
    assert!(history.contains("get fruit/apple") && !history.contains("hidden"), "{history}");
}

/// Types a line key by key, as a person does, and waits until something is shown. Only for lines that have a hint
/// behind each of their keys: then all of the line is shown with each.
fn type_slowly(shell: &mut PtySession, keys: &str, shown: &str) {
    for end in 1..=keys.len() {
        type_and_see(shell, &keys[end - 1..end], &format!("{PROMPT}{}", &keys[..end]));
    }
    type_and_see(shell, "\r", shown);
}

#[test]
fn changes_stand_above_the_line_that_is_typed() {
    let cluster = Cluster::start(1);
    let address = cluster.addresses()[0].to_string();
    let db = cluster.client();
    db.put("fruit", "green");
    let home = tempfile::tempdir().unwrap();
    let mut shell = shell(&address, home.path());
    let shell = &mut shell;
    type_and_see(shell, "watch fruit\r", "watching `fruit`; `unwatch` ends it");
    type_and_see(shell, "", PROMPT);
    type_slowly(shell, "watch fruit", "`fruit` is watched already");
    type_and_see(shell, "", PROMPT);
    type_slowly(shell, "watch nut", "watching `nut`; ");
    type_and_see(shell, "", PROMPT);
    // Half a line is typed when the change comes: it is shown again below, and goes on to be typed.
    for (key, typed) in [("g", "g"), ("e", "ge"), ("t", "get"), (" ", "get "), ("f", "get f")] {
        type_and_see(shell, key, &format!("{PROMPT}{typed}"));
    }
    db.put("fruit", "red");
    type_and_see(shell, "", "put fruit red  (version ");
    type_and_see(shell, "", &format!("{PROMPT}get f"));
    for (key, typed) in [("r", "get fr"), ("u", "get fru"), ("i", "get frui"), ("t", "get fruit")] {
        type_and_see(shell, key, &format!("{PROMPT}{typed}"));
    }
    type_and_see(shell, "\r", "red\r\n");
    type_and_see(shell, "", PROMPT);
    db.put("nut", "brown");
    type_and_see(shell, "", "put nut brown  (version ");
    type_and_see(shell, "", PROMPT);
    type_slowly(shell, "unwatch", "no longer watching `fruit`, `nut`");
    type_and_see(shell, "", PROMPT);
    type_slowly(shell, "unwatch", "nothing is watched");
    type_and_see(shell, "", PROMPT);
    shell.send("\u{4}").and_then(|_| shell.flush()).unwrap();
    shell.exp_eof().expect("it ends");
}
