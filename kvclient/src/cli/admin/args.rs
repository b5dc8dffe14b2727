//! The arguments of `admin`.

use clap::{Args, Subcommand};
use common::ids::Epoch;

/// What is wanted of the ECS.
#[derive(Debug, Args)]
pub(in crate::cli) struct AdminArgs {
    /// Answers as JSON
    #[arg(long, global = true)]
    pub(in crate::cli) json: bool,
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
        after_help = "Examples:\n  kvclient admin recover-partition 7 --accept-loss\n  kvclient admin recover-partition 7 9 --accept-loss --from 51c2"
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
        after_help = "Examples:\n  kvclient admin plan drain localhost:5003\n  kvclient admin plan replace localhost:5003 localhost:5006"
    )]
    Plan {
        #[command(subcommand)]
        order: Order,
    },
    /// Give an order, if the plan for it still holds
    #[command(
        after_help = "Examples:\n  kvclient admin apply --epoch 41 drain localhost:5003\n  kvclient admin apply --epoch 41 add localhost:5006"
    )]
    Apply {
        /// The epoch that the plan was made for, as it says
        #[arg(long, value_name = "N")]
        epoch: Epoch,
        #[command(subcommand)]
        order: Order,
    },
    /// Begin and move no copies, and hold those on their way
    #[command(after_help = "Examples:\n  kvclient admin pause\n  kvclient admin pause --json")]
    Pause,
    /// Let copies go on
    #[command(after_help = "Examples:\n  kvclient admin resume\n  kvclient admin resume --json")]
    Resume,
    /// Take back what is under way: drains, and additions that are not complete
    #[command(after_help = "Examples:\n  kvclient admin cancel\n  kvclient admin cancel localhost:5003")]
    Cancel {
        /// With these servers, all together; all that is under way if none is named
        servers: Vec<String>,
    },
}

/// What servers are to do.
#[derive(Debug, Subcommand)]
pub(super) enum Order {
    /// A server that stands by is to hold its share
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
        /// Who leaves
        old: String,
        /// Who takes its place
        new: String,
    },
}
