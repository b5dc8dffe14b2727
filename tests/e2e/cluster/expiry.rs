//! Expired keys leave the disk by themselves, even where no client reads or writes any more.

use crate::support::resp::RespClient;
use crate::support::wait::SOON;
use crate::support::{Settings, wait_until};

const KEYS: usize = 300;

/// `keys` and `expires` of `INFO keyspace`.
fn counted(client: &mut RespClient) -> (u64, u64) {
    let info = client.line("INFO keyspace");
    let number = |name: &str| {
        let (_, rest) = info.split_once(name).unwrap_or_else(|| panic!("{info} has {name}"));
        rest.split(',').next().and_then(|digits| digits.parse().ok()).expect("a number")
    };
    (number("keys="), number("expires="))
}

#[test]
fn expired_keys_without_requests_leave_every_copy() {
    let mut cluster = Settings::default().start(3);
    let mut clients: Vec<RespClient> = cluster.addresses().into_iter().map(RespClient::connect).collect();
    for key in 0..KEYS {
        assert_eq!(clients[0].line(&format!("SET session{key} v PX 2000")), "+OK");
        assert_eq!(clients[0].line(&format!("SET stays{key} v")), "+OK");
    }
    assert_eq!(clients[0].line("SET later v EX 9999"), "+OK");
    for client in &mut clients {
        wait_until("what has expired is removed", SOON, || counted(client) == (KEYS as u64 + 1, 1));
    }
    assert_eq!(clients[1].line("DBSIZE"), (KEYS + 1).to_string());
    assert_eq!(clients[1].line("GET stays7"), "\"v\"");
    // The copies are the same, and a start knows how many there are.
    let verified = cluster.kvclient(0, &["verify"]);
    assert!(verified.status.success(), "{verified:?}");
    cluster.kill_server(2);
    cluster.start_server(2);
    cluster.wait_settled();
    let mut client = RespClient::connect(cluster.address(2));
    wait_until("it has counted", SOON, || counted(&mut client) == (KEYS as u64 + 1, 1));
    // A server that is new gets the list with its copies.
    assert_eq!(client.line("PEXPIRE later 1500"), "1");
    let new = cluster.add_server();
    cluster.wait_settled();
    let mut client = RespClient::connect(cluster.address(new));
    wait_until("nothing expires any more", SOON, || counted(&mut client).1 == 0);
}
