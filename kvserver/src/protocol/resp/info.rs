//! `INFO`: what clients look for, in the names that they look for, and our own facts under `# Trefoil`.

use std::fmt::Write as _;

use super::local::REDIS_VERSION;

/// The facts of a server that `INFO` reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The port that it listens on.
    pub port: u16,
    /// The id that the operating system gave to the process.
    pub process_id: u32,
    /// Names this process: 32 hex digits and an incarnation.
    pub run_id: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Connected Redis clients.
    pub clients: usize,
    /// Resident bytes of memory.
    pub memory_bytes: u64,
    /// Commands that Redis clients have sent.
    pub commands: u64,
    /// Connections of Redis clients so far.
    pub connections: u64,
    /// Keys of this server's copies.
    pub keys: u64,
    /// Keys among these that have an expiry.
    pub expiring: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes free on the disk.
    pub free_bytes: u64,
    /// The server's id.
    pub server: String,
    /// The epoch of its view.
    pub epoch: String,
    /// Partitions of the cluster.
    pub partitions: usize,
    /// Partitions that it coordinates.
    pub coordinated: usize,
    /// Partitions that it has a copy of.
    pub copies: usize,
    /// Entries that its copies have on disk and not applied.
    pub lag: u64,
    /// The version of this program.
    pub program: String,
}

/// The sections that exist, in order.
const SECTIONS: [&str; 9] =
    ["server", "clients", "memory", "persistence", "stats", "replication", "cpu", "cluster", "keyspace"];

/// Writes the sections that are asked for; none: all.
#[must_use]
pub fn write_info(facts: &Facts, sections: &[String]) -> String {
    let all = sections.is_empty()
        || sections.iter().any(|name| ["all", "default", "everything"].contains(&name.as_str()));
    let mut text = String::new();
    for section in SECTIONS.into_iter().chain(["trefoil"]) {
        if all || sections.iter().any(|name| name == section) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let mut title = section.to_owned();
            title[..1].make_ascii_uppercase();
            if section == "cpu" {
                title.make_ascii_uppercase();
            }
            let _never_fails = write!(text, "# {title}\r\n");
            for (name, value) in lines(facts, section) {
                let _never_fails = write!(text, "{name}:{value}\r\n");
            }
        }
    }
    text
}

fn lines(facts: &Facts, section: &str) -> Vec<(&'static str, String)> {
    let text = str::to_owned;
    let number = |number: u64| number.to_string();
    match section {
        "server" => vec![
            ("redis_version", text(REDIS_VERSION)),
            ("redis_mode", text("standalone")),
            ("os", text(std::env::consts::OS)),
            ("arch_bits", text("64")),
            ("process_id", number(facts.process_id.into())),
            ("run_id", facts.run_id.clone()),
            ("tcp_port", number(facts.port.into())),
            ("uptime_in_seconds", number(facts.uptime_seconds)),
            ("uptime_in_days", number(facts.uptime_seconds / 86_400)),
            ("hz", text("100")),
        ],
        "clients" => vec![
            ("connected_clients", facts.clients.to_string()),
            ("cluster_connections", text("0")),
            ("blocked_clients", text("0")),
        ],
        "memory" => vec![
            ("used_memory", number(facts.memory_bytes)),
            ("used_memory_human", format!("{:.2}M", facts.memory_bytes as f64 / f64::from(1 << 20))),
            ("used_memory_rss", number(facts.memory_bytes)),
            ("used_memory_peak", number(facts.memory_bytes)),
            ("maxmemory", text("0")),
            ("maxmemory_policy", text("noeviction")),
            ("mem_fragmentation_ratio", text("1.00")),
        ],
        "persistence" => vec![
            ("loading", text("0")),
            ("rdb_bgsave_in_progress", text("0")),
            ("rdb_last_bgsave_status", text("ok")),
            ("aof_enabled", text("1")),
            ("aof_rewrite_in_progress", text("0")),
            ("aof_last_write_status", text("ok")),
        ],
        "stats" => vec![
            ("total_connections_received", number(facts.connections)),
            ("total_commands_processed", number(facts.commands)),
            ("evicted_keys", text("0")),
            ("pubsub_channels", text("0")),
        ],
        "replication" => {
            vec![("role", text("master")), ("connected_slaves", text("0")), ("master_repl_offset", text("0"))]
        }
        "cpu" => Vec::new(),
        "cluster" => vec![("cluster_enabled", text("0"))],
        "keyspace" if facts.keys == 0 => Vec::new(),
        "keyspace" => vec![("db0", format!("keys={},expires={},avg_ttl=0", facts.keys, facts.expiring))],
        _ => vec![
            ("trefoil_version", facts.program.clone()),
            ("server_id", facts.server.clone()),
            ("epoch", facts.epoch.clone()),
            ("partitions", facts.partitions.to_string()),
            ("partitions_coordinated", facts.coordinated.to_string()),
            ("partitions_held", facts.copies.to_string()),
            ("apply_lag_entries", number(facts.lag)),
            ("disk_bytes", number(facts.disk_bytes)),
            ("disk_free_bytes", number(facts.free_bytes)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_find_what_they_look_for() {
        let facts = Facts { port: 5001, keys: 7, expiring: 5, ..Facts::default() };
        let text = write_info(&facts, &[]);
        for line in [
            "redis_version:7.2.4",
            "redis_mode:standalone",
            "tcp_port:5001",
            "loading:0",
            "role:master",
            "connected_slaves:0",
            "cluster_enabled:0",
            "db0:keys=7,expires=5,avg_ttl=0",
            "maxmemory:0",
        ] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{line}");
        }
        let one = write_info(&facts, &["keyspace".into()]);
        assert_eq!(one, "# Keyspace\r\ndb0:keys=7,expires=5,avg_ttl=0\r\n");
        assert_eq!(write_info(&facts, &["what".into()]), "");
    }
}
