use super::super::testkit::Map;
use super::*;
use common::ids::{Epoch, Seq};
use common::limits::VALUE_BYTES_MAX;
use common::operation::{Condition, Expiry};

#[derive(Default)]
struct Machine {
    state: State,
    map: Map,
    seq: u64,
}

impl Machine {
    fn run(&mut self, origin: Option<Origin>, stamp: u64, operation: Operation) -> Outcome {
        self.seq += 1;
        let id = at(self.seq);
        let command = Command { origin, stamp: WallTime(stamp), operation };
        self.state.apply(&mut self.map, id, command.to_wire()).unwrap()
    }

    fn value(&self, key: &str) -> Option<Bytes> {
        self.state.read(&self.map, key.as_bytes()).unwrap().map(|found| found.value)
    }
}

fn at(seq: u64) -> LogId {
    LogId { tag: Epoch { generation: 0, version: 1 }, seq: Seq(seq) }
}

fn origin(number: u64, first_unanswered: u64) -> Option<Origin> {
    let (number, first_unanswered) = (RequestNumber(number), RequestNumber(first_unanswered));
    Some(Origin { client: ClientId(5), number, first_unanswered })
}

fn append_to_k(bytes: &'static str) -> Operation {
    Operation::Append { key: "k".into(), value: bytes.into() }
}

#[test]
fn a_retried_append_is_applied_once_and_gets_its_first_result() {
    let mut machine = Machine::default();
    let first = machine.run(origin(1, 1), 1, append_to_k("ab"));
    assert_eq!(
        machine.run(origin(2, 1), 1, append_to_k("cd")),
        Outcome::Appended { version: at(2), offset: 2 }
    );
    assert_eq!(machine.run(origin(1, 1), 1, append_to_k("ab")), first);
    assert_eq!(machine.value("k").unwrap(), "abcd");
}

#[test]
fn results_survive_a_snapshot_and_end_with_their_answer() {
    let mut machine = Machine::default();
    let first = machine.run(origin(1, 1), 1, append_to_k("ab"));
    machine.state = State::decode(machine.state.encode()).unwrap();
    assert_eq!(machine.run(origin(1, 1), 1, append_to_k("ab")), first);
    machine.run(origin(2, 2), 1, append_to_k("cd"));
    assert_eq!(machine.state.clients[&ClientId(5)].outcomes.len(), 1, "answered results are forgotten");
    let late = machine.run(origin(1, 1), 1, append_to_k("ab"));
    assert_eq!(late, Outcome::Superseded {}, "a late duplicate is not applied again");
    assert_eq!(machine.value("k").unwrap(), "abcd");
}

#[test]
fn silent_clients_are_forgotten_after_long() {
    let mut machine = Machine::default();
    machine.run(origin(1, 1), 1, append_to_k("ab"));
    let kept_ms = RESULTS_KEPT_FOR.as_millis() as u64;
    for step in 1..=kept_ms / STEP_MS_MAX + COMMANDS_PER_SWEEP {
        machine.run(None, 1 + step * STEP_MS_MAX, Operation::Tick {});
    }
    assert_eq!(machine.state.clients.len(), 0);
}

#[test]
fn a_clock_that_jumps_ahead_makes_nobody_forgotten() {
    let mut machine = Machine::default();
    let first = machine.run(origin(1, 1), 1, append_to_k("ab"));
    let jump = 10 * RESULTS_KEPT_FOR.as_millis() as u64;
    for _ in 0..2 * COMMANDS_PER_SWEEP {
        machine.run(None, jump, Operation::Tick {});
    }
    assert_eq!(machine.run(origin(1, 1), jump, append_to_k("ab")), first, "applied once");
}

#[test]
fn a_client_without_answers_is_remembered_within_bounds() {
    let mut machine = Machine::default();
    for number in 1..=OUTCOMES_PER_CLIENT_MAX as u64 + 2 {
        machine.run(origin(number, 1), 1, append_to_k("x"));
    }
    assert_eq!(machine.state.clients[&ClientId(5)].outcomes.len(), OUTCOMES_PER_CLIENT_MAX);
    assert_eq!(machine.run(origin(1, 1), 1, append_to_k("x")), Outcome::Superseded {}, "not a second time");
    assert_eq!(machine.value("k").unwrap().len(), OUTCOMES_PER_CLIENT_MAX + 2);
}

#[test]
fn conditions_compare_versions_and_values() {
    let mut machine = Machine::default();
    let put = |condition| Operation::Put { key: "k".into(), value: "v".into(), expires: None, condition };
    assert_eq!(machine.run(None, 1, put(Condition::Present {})), Outcome::ConditionFailed { current: None });
    let Outcome::Written { version, replaced: false } = machine.run(None, 1, put(Condition::Absent {}))
    else {
        panic!("the key is new")
    };
    assert!(matches!(machine.run(None, 1, put(Condition::Absent {})), Outcome::ConditionFailed { .. }));
    assert!(matches!(
        machine.run(None, 1, put(Condition::Version { version })),
        Outcome::Written { replaced: true, .. }
    ));
    assert!(matches!(
        machine.run(None, 1, put(Condition::Version { version })),
        Outcome::ConditionFailed { current: Some(_) }
    ));
    let delete = |value: &'static str| Operation::Delete {
        key: "k".into(),
        condition: Condition::Value { value: value.into() },
    };
    assert!(matches!(machine.run(None, 1, delete("w")), Outcome::ConditionFailed { .. }));
    assert!(matches!(machine.run(None, 1, delete("v")), Outcome::Deleted { .. }));
    let any = Operation::Delete { key: "k".into(), condition: Condition::Always {} };
    assert_eq!(machine.run(None, 1, any), Outcome::NotFound {});
}

#[test]
fn expiry_is_log_time_and_a_stamp_that_is_a_little_behind_revives_nothing() {
    let mut machine = Machine::default();
    let put = Operation::Put {
        key: "k".into(),
        value: "v".into(),
        expires: Some(WallTime(100)),
        condition: Condition::Always {},
    };
    machine.run(None, 10, put);
    machine.run(None, 99, Operation::Tick {});
    assert!(machine.value("k").is_some());
    machine.run(None, 100, Operation::Tick {});
    assert!(machine.value("k").is_none());
    machine.run(None, 50, Operation::Tick {});
    assert!(machine.value("k").is_none(), "a clock that jumps back revives nothing");
    let version = machine.run(None, 50, append_to_k("new"));
    assert_eq!(version, Outcome::Appended { version: at(5), offset: 0 }, "expired bytes are not appended to");
}

#[test]
fn log_time_falls_back_from_far_ahead_and_what_was_gone_stays_gone() {
    let mut machine = Machine::default();
    let put = |key: &'static str, expires| Operation::Put {
        key: key.into(),
        value: "v".into(),
        expires: Some(WallTime(expires)),
        condition: Condition::Always {},
    };
    let set = |key: &'static str| Operation::Set {
        key: key.into(),
        value: "v".into(),
        expiry: common::operation::Expiry::In { ms: 2_000 },
        condition: Condition::Absent {},
        return_old: false,
    };
    machine.run(None, 1_000_000, put("k", 1_050_000));
    machine.run(None, 80_000_000, Operation::Tick {});
    machine.run(None, 0, Operation::Tick {});
    assert!(machine.value("k").is_none());
    machine.run(None, 1_010_000, set("new"));
    machine.state = State::decode(machine.state.encode()).unwrap();
    assert!(machine.value("k").is_none() && machine.value("new").is_some());
    machine.run(None, 1_012_000, Operation::Tick {});
    assert!(machine.value("new").is_none(), "it lives for two seconds, not for a day");
    assert!(matches!(machine.run(None, 1_012_000, set("k")), Outcome::Written { replaced: false, .. }));
    assert!(machine.value("k").is_some());
}

#[test]
fn an_append_over_the_limit_changes_nothing() {
    let mut machine = Machine::default();
    machine.run(None, 1, Operation::put("k", vec![0; VALUE_BYTES_MAX]));
    assert!(matches!(machine.run(None, 1, append_to_k("x")), Outcome::TooLarge { .. }));
    assert_eq!(machine.value("k").unwrap().len(), VALUE_BYTES_MAX);
}

#[test]
fn a_retried_increment_is_applied_once_and_gets_its_first_result() {
    let mut machine = Machine::default();
    let add = || Operation::Add { key: "n".into(), by: 1 };
    let first = machine.run(origin(1, 1), 1, add());
    assert_eq!(first, Outcome::Sum { version: at(1), value: "1".into() });
    machine.state = State::decode(machine.state.encode()).unwrap();
    assert_eq!(machine.run(origin(1, 1), 1, add()), first);
    assert_eq!(machine.value("n").unwrap(), "1");
}

#[test]
fn a_long_value_is_told_once() {
    let mut machine = Machine::default();
    let long = Bytes::from(vec![b'x'; RETURNED_BYTES_KEPT + 1]);
    machine.run(None, 1, Operation::put("k", long.clone()));
    let take = || Operation::Take { key: "k".into() };
    assert_eq!(machine.run(origin(1, 1), 1, take()), Outcome::Changed { version: at(2), old: Some(long) });
    assert_eq!(machine.run(origin(1, 1), 1, take()), Outcome::Forgotten {});
    assert!(machine.state.encode().len() < RETURNED_BYTES_KEPT);
}

#[test]
fn a_batch_is_done_as_a_whole_or_not_at_all() {
    let mut machine = Machine::default();
    let set = |value: &'static str| Operation::Set {
        key: "k".into(),
        value: value.into(),
        expiry: Expiry::Keep {},
        condition: Condition::Always {},
        return_old: false,
    };
    let add = || Operation::Add { key: "k".into(), by: 1 };
    let fetch = || Operation::Fetch { key: "k".into() };
    let batch = |condition, parts: Vec<Operation>| Operation::Batch {
        checks: vec![Check { key: "k".into(), condition }],
        parts: parts.into_iter().map(Part).collect(),
    };
    // Each part sees what those before it did.
    let done = machine.run(origin(1, 1), 1, batch(Condition::Absent {}, vec![set("41"), add(), fetch()]));
    let Outcome::All { results } = &done else { panic!("{done:?}") };
    assert_eq!(results[1].0, Outcome::Sum { version: at(1), value: "42".into() });
    assert!(matches!(&results[2].0, Outcome::Fetched { found: Some(found) } if found.value == "42"));
    assert_eq!(machine.value("k").unwrap(), "42");
    // A part that fails leaves the others, as in Redis.
    let mixed = machine.run(None, 1, batch(Condition::Present {}, vec![set("x"), add()]));
    assert!(matches!(mixed, Outcome::All { .. }));
    let aborted = machine.run(None, 1, batch(Condition::Version { version: at(1) }, vec![set("y")]));
    assert_eq!(aborted, Outcome::Aborted {});
    assert_eq!(machine.value("k").unwrap(), "x");
    assert_eq!(machine.run(origin(1, 1), 1, batch(Condition::Absent {}, vec![set("z")])), done, "a retry");
    assert_eq!(machine.value("k").unwrap(), "x");
}
