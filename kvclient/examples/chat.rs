//! A chat room is a key: each message is a put, and all watch the key.
//!
//! `cargo run -p trefoil-kvclient --example chat -- localhost:5001 ROOM NAME`

use kvclient::{Change, Client, Options, Selection};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [server, room, name] = args.as_slice() else { return Err("arguments: HOST:PORT ROOM NAME".into()) };
    let client = Client::connect([server], Options::default()).await?;
    let key = format!("chat/{room}");
    let mut watch = client.watch(Selection::Key { key: key.clone().into() }).await?;
    tokio::spawn(async move {
        loop {
            match watch.next().await {
                Ok(Change::Put { found, .. }) => println!("{}", String::from_utf8_lossy(&found.value)),
                Ok(_) => {}
                Err(error) if error.is_retryable() => eprintln!("{error}"),
                Err(error) => return eprintln!("{error}"),
            }
        }
    });
    // The runtime's other threads print meanwhile.
    for line in std::io::stdin().lines() {
        client.put(key.clone(), format!("{name}: {}", line?)).await?;
    }
    Ok(())
}
