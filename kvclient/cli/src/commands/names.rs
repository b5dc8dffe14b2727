//! Names of servers and epochs, for people.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ecs::Ecs;
use crate::frame::failure::Failure;

/// The addresses of the servers, by id.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    pub(crate) async fn ask(ecs: &Ecs) -> Result<Self, Failure> {
        Ok(Self::of_servers(&ecs.get("/api/v1/servers").await?["servers"]))
    }

    pub(crate) fn of_servers(servers: &Value) -> Self {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = |server: &Value| (word(&server["server"]), word(&server["address"]));
        Self(servers.as_array().into_iter().flatten().map(name).collect())
    }

    /// The address of a server, or the first digits of its id.
    pub(crate) fn address(&self, id: &str) -> String {
        self.0.get(id).cloned().unwrap_or_else(|| short(id).to_owned())
    }

    /// The name of a server for people.
    pub(crate) fn of(&self, id: &str) -> String {
        self.0.get(id).map_or_else(|| short(id).to_owned(), |address| format!("{address} ({})", short(id)))
    }
}

/// An epoch, or the number of a view, as the ECS writes it.
pub(crate) fn epoch_shown(json: &Value) -> String {
    let number = |key: &str| json[key].as_u64().unwrap_or_default();
    match number("generation") {
        0 => number("version").to_string(),
        generation => format!("{generation}/{}", number("version")),
    }
}

/// The first digits of an id.
pub(crate) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
