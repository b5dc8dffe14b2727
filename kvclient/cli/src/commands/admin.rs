//! `kvclient admin`: orders of operators, over the ECS's HTTP interface.

mod answer;
mod args;
mod drain;
mod plan;
mod wait;

use std::io::Write;

use serde_json::{Value, json};

use crate::commands::ecs::Ecs;
use crate::commands::names::{Names, short};
use crate::frame::failure::Failure;
use crate::frame::session::Session;
use answer::print;
pub(crate) use args::AdminArgs;
use args::{What, escaped};

/// Runs one of the commands.
pub(crate) async fn run(session: &mut Session, args: &AdminArgs, out: &mut dyn Write) -> Result<(), Failure> {
    if let What::Wait { servers, healthy, timeout } = args.what {
        let ecs = args.ecs.clone().map(|address| Ecs { address });
        let wanted = wait::Wanted { servers, healthy, timeout };
        return wait::run(session, ecs, wanted, args.json, out).await;
    }
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
        What::Wait { .. } => unreachable!("taken above"),
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
        "OK: no copy is begun or moved, and those on their way are paused, until `admin resume`. What fails is still \
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
