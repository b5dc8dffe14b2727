//! `kvclient admin`: what operators order, over the ECS's HTTP interface.

mod args;
mod drain;
mod http;
mod plan;

use std::io::Write;

use serde_json::{Value, json};

use super::failure::Failure;
use super::session::Session;
pub(super) use args::AdminArgs;
use args::{Order, What};
pub(super) use http::Ecs;
pub(super) use plan::{Names, epoch_of as epoch_shown};

/// Runs one of the commands.
pub(super) async fn run(session: &mut Session, args: &AdminArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let address = match &args.ecs {
        Some(address) => address.clone(),
        None => session.client().await?.ecs_address().await?,
    };
    let ecs = Ecs { address };
    match &args.what {
        What::RecoverPartition { partitions, accept_loss, from } => {
            for partition in partitions {
                let mut body = json!({ "accept_loss": accept_loss });
                if let Some(server) = from {
                    body["server"] = json!(server);
                }
                let answer = ecs.post(&format!("/api/v1/partitions/{partition}/recover"), &body).await?;
                print(out, args.json, &answer, &recovered(&answer))?;
            }
            Ok(())
        }
        What::Drain { server, no_wait } => drain::run(&ecs, server, *no_wait, args.json, out).await,
        What::Plan { order } => {
            let plan = ecs.get(&format!("/api/v1/plan?{}", order.query())).await?;
            let names = Names::ask(&ecs).await?;
            print(out, args.json, &plan, &plan::shown(&plan, order, &names))
        }
        What::Apply { epoch, order } => {
            let mut body = order.body();
            body["epoch"] = json!(epoch.to_string());
            let plan = ecs.post("/api/v1/plan", &body).await?;
            print(out, args.json, &plan, &plan::applied(&plan, order))
        }
        What::Pause => set_paused(&ecs, true, args.json, out).await,
        What::Resume => set_paused(&ecs, false, args.json, out).await,
        What::Cancel { servers } => {
            let path = if servers.is_empty() {
                "/api/v1/cancel".to_owned()
            } else {
                let names = servers.iter().map(|name| name.bytes().map(escaped).collect::<String>());
                format!("/api/v1/servers/{}/cancel", names.collect::<Vec<_>>().join(","))
            };
            let answer = ecs.post(&path, &json!({})).await?;
            let names = Names::ask(&ecs).await?;
            print(out, args.json, &answer, &cancelled(&answer, &names))
        }
    }
}

async fn set_paused(ecs: &Ecs, paused: bool, as_json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = ecs.post("/api/v1/settings", &json!({ "paused": paused })).await?;
    let text = if paused {
        "OK: no copy is begun or moved, and those on their way are held, until `admin resume`. What fails is still \
         replaced by copies that are in sync; lost copies are not made again meanwhile\n"
    } else {
        "OK: copies go on\n"
    };
    print(out, as_json, &settings, text)
}

fn recovered(answer: &Value) -> String {
    let (partition, server) = (&answer["partition"], answer["server"].as_str().unwrap_or("?"));
    let last =
        answer["last"].as_str().map_or("nothing of it".to_owned(), |last| format!("up to entry {last}"));
    format!(
        "OK: partition {partition} begins anew from server {}, which had {last} when it started\n",
        short(server)
    )
}

fn cancelled(answer: &Value, names: &Names) -> String {
    let mut text = String::new();
    for server in answer["servers"].as_array().into_iter().flatten() {
        let name = names.of(server["server"].as_str().unwrap_or_default());
        let becomes = match server["part"].as_str() {
            Some("stand_by") => "stands by: it gives back what it has received",
            _ => "stays, and gets back what it has given",
        };
        text.push_str(&format!("OK: {name} {becomes}\n"));
    }
    if text.is_empty() { "OK: nothing is under way\n".to_owned() } else { text }
}

/// The first digits of an id.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn print(out: &mut dyn Write, as_json: bool, json: &Value, text: &str) -> Result<(), Failure> {
    let written = if as_json { writeln!(out, "{json:#}") } else { out.write_all(text.as_bytes()) };
    written.and_then(|()| out.flush()).map_err(Failure::output)
}

impl Order {
    /// The order as a query.
    fn query(&self) -> String {
        let plain = |name: &str| name.bytes().map(escaped).collect::<String>();
        match self {
            Self::Add { server } => format!("add={}", plain(server)),
            Self::Drain { server } => format!("drain={}", plain(server)),
            Self::Replace { old, new } => format!("replace={}&with={}", plain(old), plain(new)),
        }
    }

    fn body(&self) -> Value {
        match self {
            Self::Add { server } => json!({ "add": server }),
            Self::Drain { server } => json!({ "drain": server }),
            Self::Replace { old, new } => json!({ "replace": old, "with": new }),
        }
    }

    /// As it was typed.
    fn words(&self) -> String {
        match self {
            Self::Add { server } => format!("add {server}"),
            Self::Drain { server } => format!("drain {server}"),
            Self::Replace { old, new } => format!("replace {old} {new}"),
        }
    }
}

/// A byte of a server's name, in a path or a query.
fn escaped(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b".:-_[]".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_asked_for_as_they_were_typed() {
        let order = Order::Replace { old: "127.0.0.1:5001".into(), new: "a&b".into() };
        assert_eq!(order.query(), "replace=127.0.0.1:5001&with=a%26b");
        assert_eq!(order.body(), json!({"replace": "127.0.0.1:5001", "with": "a&b"}));
        assert_eq!(order.words(), "replace 127.0.0.1:5001 a&b");
    }
}
