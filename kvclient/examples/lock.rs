//! One process at a time does the work; the others wait for the lock. Run it in several terminals, and kill one.
//!
//! `cargo run -p trefoil-kvclient --example lock -- localhost:5001`

use std::time::Duration;

use kvclient::{Client, Options};
use tokio::time::interval;

/// How long the lock stays taken when its holder dies.
const LEASE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "localhost:5001".to_owned());
    let client = Client::connect([server], Options::default()).await?;
    println!("waiting for the lock");
    let lock = client.lock("example/lock", LEASE).await?;
    println!("it is held; what it protects refuses versions below {}", lock.fencing());
    tokio::select! {
        () = work() => println!("done; it {}", if lock.release().await? { "is free" } else { "was lost" }),
        () = lock.lost() => println!("it is lost: stopped in the middle"),
    }
    Ok(())
}

/// Takes ten seconds.
async fn work() {
    let mut ticks = interval(Duration::from_secs(1));
    for step in 0..=10 {
        ticks.tick().await;
        println!("step {step}");
    }
}
