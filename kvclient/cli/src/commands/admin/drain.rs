//! `admin drain`: everything is moved away from a server, and the command waits until that is done, or says why it
//! cannot be.

use std::io::{self, IsTerminal, Write};

use hyper::StatusCode;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::answer::{print, wait};
use super::args::escaped;
use crate::commands::ecs::{Ecs, accepted};
use crate::commands::names::Names;
use crate::frame::failure::{Exit, Failure};
use crate::limits::DRAIN_LOOKS_EVERY;

/// The progress of a drain.
#[derive(Debug, PartialEq)]
enum Stage {
    /// The number of copies that are still on the server.
    Moving(u64),
    /// The server is no member any more.
    Done,
}

pub(super) async fn run(
    ecs: &Ecs,
    server: &str,
    no_wait: bool,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let status = ecs.get("/api/v1/status").await?;
    let names = Names::of_servers(&status["servers"]);
    let (id, fewer) = begin(ecs, server).await?;
    let name = names.of(&id);
    if fewer > 0 {
        eprintln!(
            "kvclient: {fewer} partitions have fewer copies when {name} has left: too few servers stay"
        );
    }
    if no_wait {
        let answer = json!({ "server": id, "drained": false, "fewer": fewer });
        return print(out, as_json, &answer, &format!("OK: {name} is leaving; `status` shows how it goes\n"));
    }
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} copies moved away  {elapsed}");
    bar.set_style(style.expect("the template is fixed"));
    let mut most = 0;
    loop {
        match look(ecs, &id, &name).await {
            Ok(Stage::Done) => break,
            Ok(Stage::Moving(left)) => {
                most = left.max(most);
                bar.set_length(most);
                bar.set_position(most - left);
            }
            Err(failure) => {
                bar.finish_and_clear();
                return Err(failure);
            }
        }
        wait(DRAIN_LOOKS_EVERY).await;
    }
    bar.finish_and_clear();
    let text = format!("OK: {name} has no copies and is no member any more; it may be stopped\n");
    print(out, as_json, &json!({ "server": id, "drained": true, "fewer": fewer }), &text)
}

/// Begins the drain, or goes on with one that was begun before. Returns the server's id, and how many partitions have
/// fewer copies then.
async fn begin(ecs: &Ecs, server: &str) -> Result<(String, u64), Failure> {
    let begun = |json: &Value| {
        let id = json["server"].as_str().unwrap_or_default().to_owned();
        (id, json["fewer"].as_u64().unwrap_or_default())
    };
    let server: String = server.bytes().map(escaped).collect();
    let shown = ecs.get(&format!("/api/v1/servers/{server}")).await?;
    if shown["leaving"] == true {
        return Ok(begun(&shown));
    }
    Ok(begun(&ecs.post(&format!("/api/v1/servers/{server}/drain"), &json!({})).await?))
}

/// Asks for the progress.
async fn look(ecs: &Ecs, id: &str, name: &str) -> Result<Stage, Failure> {
    let answer = ecs.ask("GET", &format!("/api/v1/servers/{id}"), None).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(Stage::Done);
    }
    let member = accepted(answer)?;
    let (status, placement) = (ecs.get("/api/v1/status").await?, ecs.get("/api/v1/partitions").await?);
    stage(&member, &status, &placement)
        .map_err(|why| Failure::new(Exit::Unavailable, format!("{name} {why}")))
}

/// The progress of the drain, or why it cannot end.
fn stage(member: &Value, status: &Value, placement: &Value) -> Result<Stage, String> {
    let number = |key: &str| member[key].as_u64().unwrap_or_default();
    let serves = |other: &&Value| {
        other["server"] != member["server"] && other["state"] == "up" && other["stands_by"] != true
    };
    let heirs = status["servers"].as_array().into_iter().flatten().filter(serves).count();
    let sole = |partition: &&Value| partition["in_sync"] == json!([member["server"]]);
    let sole = placement["partitions"].as_array().into_iter().flatten().filter(sole).count();
    let down = member["state"] == "down";
    if member["leaving"] == false {
        return Err(
            "is not leaving any more: the drain was cancelled, or the server was started anew".to_owned()
        );
    }
    if status["paused"] == true {
        return Err(
            "cannot be drained while copying is paused: `admin resume` lets it go on, and the drain then continues"
                .to_owned(),
        );
    }
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let held = conditions.find(|condition| {
        let about = condition["servers"].as_array().and_then(|servers| servers.first());
        condition["name"] == "replacement_held" && about == Some(&member["server"])
    });
    if let Some(held) = held {
        let next = held["next"].as_str().unwrap_or_default();
        return Err(format!("waits for the server that is to take its place: {next}"));
    }
    if down && sole > 0 {
        return Err(format!(
            "is down and has the only copy of {sole} partitions: start it again, and the drain continues"
        ));
    }
    if heirs == 0 {
        return Err(
            "cannot be drained: no other server that serves is up. Start one, and it goes on leaving"
                .to_owned(),
        );
    }
    Ok(Stage::Moving(number("coordinator") + number("replica")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_that_does_not_end_says_why() {
        let member = |state: &str, leaving: bool| -> Value {
            json!({"server": "a", "state": state, "leaving": leaving, "coordinator": 2, "replica": 3})
        };
        let status = |paused: bool, other: &str| {
            let servers = json!([{"server": "a", "state": "leaving"}, {"server": "b", "state": other}]);
            json!({"paused": paused, "servers": servers})
        };
        let placement = json!({"partitions": [{"in_sync": ["a"]}, {"in_sync": ["a", "b"]}]});
        let leaving = member("leaving", true);
        assert_eq!(stage(&leaving, &status(false, "up"), &placement), Ok(Stage::Moving(5)));
        let why = |member: &Value, status: &Value| stage(member, status, &placement).unwrap_err();
        assert!(why(&leaving, &status(true, "up")).contains("admin resume"));
        assert!(why(&leaving, &status(false, "down")).contains("no other server"));
        assert!(why(&member("down", true), &status(false, "up")).contains("only copy of 1 partitions"));
        let mut held = status(false, "up");
        held["conditions"] = json!([{"name": "replacement_held", "servers": ["a", "c"], "next": "start it"}]);
        assert!(why(&leaving, &held).ends_with("take its place: start it"));
        assert!(why(&member("up", false), &status(false, "up")).contains("cancelled"));
    }
}
