//! The grammar along lines as people type them.

use super::*;
use crate::args::programs;
use crate::parse::table::find;

fn hinted(text: &str) -> String {
    let line = Line::split(text.as_bytes()).unwrap();
    hint(find(&line.words[0].text()).unwrap(), &line.words[1..], programs)
}

#[test]
fn a_hint_is_what_is_left() {
    assert_eq!(hinted("put"), "KEY VALUE [--if-absent | --if-present] [--ttl TIME]");
    assert_eq!(hinted("put k"), "VALUE [--if-absent | --if-present] [--ttl TIME]");
    assert_eq!(hinted("put --if-absent k"), "VALUE [--ttl TIME]");
    assert_eq!(hinted("put k v w --ttl"), "TIME [--if-absent | --if-present]");
    assert_eq!(hinted("put k v --ttl 10s --if-absent"), "");
    assert_eq!(hinted("cas k"), "--version VERSION VALUE | --value OLD NEW");
    assert_eq!(hinted("cas k --value old"), "NEW");
    assert_eq!(hinted("expire k"), "TIME | never");
    assert_eq!(hinted("get k extra"), "");
    assert_eq!(hinted("keyrange"), "[--json]");
    assert_eq!(hinted("disconnect"), "");
}

#[test]
fn programs_are_known_by_their_arguments() {
    assert_eq!(hinted("import"), "FILE [OPTIONS]");
    assert!(hinted("admin").starts_with("recover-partition|drain|"), "{}", hinted("admin"));
    assert!(hinted("admin apply").starts_with("add|drain|replace --epoch N"), "{}", hinted("admin apply"));
    assert_eq!(hinted("admin plan replace a"), "NEW [--json] [--ecs HOST:PORT]");
}

#[test]
fn the_next_word_is_known() {
    let next = |text: &str| {
        let line = Line::split(text.as_bytes()).unwrap();
        next(find(&line.words[0].text()).unwrap(), &line.words[1..], programs)
    };
    assert_eq!(next("get").slots, ["KEY"]);
    assert_eq!(
        next("get k"),
        Next { options: vec!["--version".to_owned(), "--json".to_owned()], ..Next::default() }
    );
    assert_eq!(next("cas k").options, ["--version", "--value"]);
    assert_eq!(
        next("expire k"),
        Next { choices: vec!["never".into()], slots: vec!["TIME".into()], ..Next::default() }
    );
    assert_eq!(next("import f --format").choices, ["ndjson", "tsv"]);
    assert_eq!(next("admin drain").slots, ["SERVER"]);
}

#[test]
fn a_word_without_a_place_is_found() {
    let wrong = |text: &str| {
        let line = Line::split(text.as_bytes()).unwrap();
        let failure = misfit(find(&line.words[0].text()).unwrap(), &line, &line.words[1..]);
        (failure.at.unwrap(), failure.message)
    };
    let (at, message) = wrong("get k --verion");
    assert_eq!(at, 6..14);
    assert!(
        message.starts_with("there is no option `--verion` here; did you mean `--version`?; usage: get"),
        "{message}"
    );
    assert_eq!(wrong("get a b").0, 6..7);
    let (at, message) = wrong("get");
    assert_eq!(at, 4..5);
    assert!(message.starts_with("KEY is missing; usage: get KEY"), "{message}");
    assert!(wrong("cas k --version").1.starts_with("VERSION is missing"));
    assert!(wrong("expire k").1.starts_with("TIME is missing"));
}

#[test]
fn what_the_shell_takes_has_a_place() {
    let fits = |text: &str| {
        let line = Line::split(text.as_bytes()).unwrap();
        let (forms, depth) = Form::of(find(&line.words[0].text()).unwrap(), &line.words[1..], programs);
        let mut walks = forms.iter().map(|form| form.walk(&line.words[1 + depth..]));
        walks.any(|walk| walk.misfit.is_none() && !walk.left.iter().any(|unit| unit.required))
    };
    for text in [
        "put k a b --ttl 10s --if-absent",
        "put --ttl 10s k a --b c",
        "put k -- --if-absent",
        "get --version k",
        "cas k --version 41.7 new value",
        "cas k --value old -- -x",
        "expire k never",
        "scan --limit 5 a",
        "scan",
    ] {
        assert!(fits(text), "{text}");
    }
    for text in ["put", "get a b", "cas k new", "keyrange x", "scan a b"] {
        assert!(!fits(text), "{text}");
    }
}

#[test]
fn an_option_is_not_swallowed_by_a_value() {
    let mistyped = |text: &str| {
        let line = Line::split(text.as_bytes()).unwrap();
        mistyped_option(find(&line.words[0].text()).unwrap(), &line.words[1..])
    };
    assert_eq!(mistyped("put k v --if-abscent").unwrap().at, Some(8..20));
    for (line, at) in
        [("put k v --ttl", 8..13), ("put k --ttl", 6..11), ("put k v --if-absent --ttl", 20..25)]
    {
        let failure = mistyped(line).unwrap();
        assert_eq!(failure.at, Some(at), "{line}");
        assert!(failure.message.starts_with("TIME is missing behind `--ttl`"), "{}", failure.message);
    }
    for fine in [
        "put k v --if-absent",
        "put k a -- --if-abscent",
        "put k v '--if-abscent'",
        "put k --other",
        "put k v --x",
    ] {
        assert_eq!(mistyped(fine), None, "{fine}");
    }
}
