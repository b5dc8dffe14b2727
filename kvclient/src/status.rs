//! The status of servers and of the cluster.

use bytes::Bytes;
use common::messages::{Reply, Request};
use common::status::{ClusterStatus, ServerStatus};
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::Error;

impl Client {
    /// The status of the server at `address`, asked once.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn server_status(&self, address: &str) -> Result<ServerStatus, Error> {
        decoded(address, self.status_json(address).await?)
    }

    /// The ECS's status of the cluster. Any server knows the ECS's address.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Unavailable`] when the ECS is down, while reads and writes go on.
    pub async fn cluster_status(&self) -> Result<ClusterStatus, Error> {
        let ecs = self.ecs_address().await?;
        tracing::debug!(ecs, "asking the ECS");
        decoded(&ecs, self.status_json(&ecs).await?)
    }

    /// The ECS's address, `HOST:PORT`, as it was given to any server.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ecs_address(&self) -> Result<String, Error> {
        let mut tried = Vec::new();
        let mut reason = "no server is known".to_owned();
        for address in self.router().addresses(None) {
            match self.server_status(&address).await {
                Ok(status) => return Ok(status.ecs),
                Err(error) => reason = error.to_string(),
            }
            tried.push(address);
        }
        Err(Error::Unavailable { tried, reason })
    }

    async fn status_json(&self, address: &str) -> Result<Bytes, Error> {
        match self.router().peer(address).ask(Request::Status {}).await {
            Ok(Reply::Status { json }) => Ok(json),
            Ok(Reply::Busy { reason } | Reply::Unknown { reason } | Reply::Refused { reason }) => {
                Err(Error::Refused { reason: format!("{address}: {reason}") })
            }
            Ok(other) => {
                let what = format!("asked for its status, it answered {other:?}");
                Err(Error::Incompatible { server: address.to_owned(), what })
            }
            Err(reason) => Err(Error::Unavailable { tried: vec![address.to_owned()], reason }),
        }
    }
}

fn decoded<T: DeserializeOwned>(address: &str, json: Bytes) -> Result<T, Error> {
    serde_json::from_slice(&json).map_err(|error| Error::Incompatible {
        server: address.to_owned(),
        what: format!("its status cannot be read: {error}"),
    })
}
