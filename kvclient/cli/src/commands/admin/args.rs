//! The arguments of `admin`.

use std::time::Duration;

use clap::{Args, Subcommand};
use common::ids::Epoch;
use serde_json::{Value, json};

/// The arguments of `kvclient admin`.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// Answers as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The ECS, if the one that the servers name cannot be reached from here
    #[arg(long, value_name = "HOST:PORT", global = true)]
    pub(super) ecs: Option<String>,
    #[command(subcommand)]
    pub(super) what: What,
}

/// A command of `admin`. Servers are named by their address or the first digits of their id.
#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// Let partitions that are offline go on from the copy of another server: writes that it lacks are lost
    #[command(
        after_help = "Examples:\n  kvclient admin recover-partition 7 --accept-loss\n  kvclient admin \
            recover-partition 7 9 --accept-loss --from 51c2"
    )]
    RecoverPartition {
        /// Their numbers
        #[arg(required = true, value_name = "P")]
        partitions: Vec<u16>,
        /// It is understood that acknowledged writes may be lost by this
        #[arg(long)]
        accept_loss: bool,
        /// From this server's copy, instead of the one that has most
        #[arg(long, value_name = "SERVER")]
        from: Option<String>,
    },
    /// Move everything away from a server, and wait until it is no member any more
    #[command(
        after_help = "Examples:\n  kvclient admin drain localhost:5003\n  kvclient admin drain 51c2 --no-wait"
    )]
    Drain {
        /// Its address, or the first digits of its id
        server: String,
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
    /// Show what an order would move
    #[command(
        after_help = "Examples:\n  kvclient admin plan drain localhost:5003\n  kvclient admin plan replace \
            localhost:5003 localhost:5006"
    )]
    Plan {
        #[command(subcommand)]
        order: Order,
    },
    /// Give an order, if the plan for it is still valid
    #[command(
        after_help = "Examples:\n  kvclient admin apply --epoch 41 drain localhost:5003\n  kvclient admin apply \
            --epoch 41 add localhost:5006"
    )]
    Apply {
        /// The epoch that the plan was made for, as it says
        #[arg(long, value_name = "N")]
        epoch: Epoch,
        #[command(subcommand)]
        order: Order,
    },
    /// Wait until so many servers are up, or the cluster is healthy, or both; code 1 when that takes too long
    #[command(
        after_help = "Examples:\n  kvclient admin wait --servers 3 --healthy\n  kvclient admin wait --healthy \
            --timeout 5m"
    )]
    Wait {
        /// At least so many servers are up
        #[arg(long, value_name = "N", required_unless_present = "healthy")]
        servers: Option<usize>,
        /// `status` says `healthy`
        #[arg(long)]
        healthy: bool,
        /// For so long at most; without it, for as long as it takes
        #[arg(long, value_name = "TIME", value_parser = common::duration::parse)]
        timeout: Option<Duration>,
    },
    /// Pause all copying: begin no copies, and stop those on their way
    #[command(after_help = "Examples:\n  kvclient admin pause\n  kvclient admin pause --json")]
    Pause,
    /// Resume copying
    #[command(after_help = "Examples:\n  kvclient admin resume\n  kvclient admin resume --json")]
    Resume,
    /// Take back what is under way: drains, and additions that are not complete
    #[command(after_help = "Examples:\n  kvclient admin cancel\n  kvclient admin cancel localhost:5003")]
    Cancel {
        /// With these servers, all together; all that is under way if none is named
        servers: Vec<String>,
    },
}

/// An order that changes the servers.
#[derive(Debug, Subcommand)]
pub(super) enum Order {
    /// A server that stands by is to get its share
    Add {
        /// Its address, or the first digits of its id
        server: String,
    },
    /// A server is to give everything away and to be no member
    Drain {
        /// Its address, or the first digits of its id
        server: String,
    },
    /// A server that stands by is to take the place of another one
    Replace {
        /// The server that leaves
        old: String,
        /// The server that takes its place
        new: String,
    },
}

impl Order {
    /// The order as a query.
    pub(super) fn query(&self) -> String {
        let plain = |name: &str| name.bytes().map(escaped).collect::<String>();
        match self {
            Self::Add { server } => format!("add={}", plain(server)),
            Self::Drain { server } => format!("drain={}", plain(server)),
            Self::Replace { old, new } => format!("replace={}&with={}", plain(old), plain(new)),
        }
    }

    pub(super) fn body(&self) -> Value {
        match self {
            Self::Add { server } => json!({ "add": server }),
            Self::Drain { server } => json!({ "drain": server }),
            Self::Replace { old, new } => json!({ "replace": old, "with": new }),
        }
    }

    /// The order as it was typed.
    pub(super) fn as_typed(&self) -> String {
        match self {
            Self::Add { server } => format!("add {server}"),
            Self::Drain { server } => format!("drain {server}"),
            Self::Replace { old, new } => format!("replace {old} {new}"),
        }
    }
}

/// A byte of a server's name, in a path or a query.
pub(super) fn escaped(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b".:-_[]".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn orders_are_asked_for_as_they_were_typed() {
        let order = Order::Replace { old: "127.0.0.1:5001".into(), new: "a&b".into() };
        assert_eq!(order.query(), "replace=127.0.0.1:5001&with=a%26b");
        assert_eq!(order.body(), json!({"replace": "127.0.0.1:5001", "with": "a&b"}));
        assert_eq!(order.as_typed(), "replace 127.0.0.1:5001 a&b");
    }
}
