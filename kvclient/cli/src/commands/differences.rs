//! Copies that servers have found different, for `status`.

use std::collections::BTreeMap;

use common::ids::ServerId;
use common::status::{Difference, ServerStatus};

/// A line for each difference; nothing if there are none.
pub(crate) fn shown(servers: &[ServerStatus]) -> String {
    let addresses: BTreeMap<ServerId, &str> =
        servers.iter().map(|status| (status.server, status.address.as_str())).collect();
    let name = |server: &ServerId| {
        addresses.get(server).map_or_else(|| server.short(), |address| (*address).to_owned())
    };
    let names = |servers: &[ServerId]| servers.iter().map(name).collect::<Vec<_>>().join(", ");
    let line = |found: &Difference| {
        let groups: Vec<String> = found.groups.iter().map(|group| names(group)).collect();
        let (partition, entry, groups) = (found.partition, found.entry, groups.join(" / "));
        if found.wrong.is_empty() {
            format!(
                "COPIES DIFFER: partition {partition}, at entry {entry}: {groups}. It is not known which is right: \
                 see \"Copies differ\" in the operations guide\n"
            )
        } else {
            let wrong = names(&found.wrong);
            format!(
                "repaired: partition {partition} differed at entry {entry}: {groups}; {wrong} was filled anew\n"
            )
        }
    };
    servers.iter().flat_map(|status| &status.compared.differences).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{Epoch, Incarnation, LogId, Seq, StoreId};
    use common::status::ComparedStatus;

    #[test]
    fn servers_are_named_and_both_kinds_told_apart() {
        let entry = LogId { tag: Epoch { generation: 0, version: 4 }, seq: Seq(17) };
        let undecided = Difference {
            partition: 7,
            entry,
            wrong: vec![],
            groups: vec![vec![ServerId(1)], vec![ServerId(2)]],
        };
        let groups = vec![vec![ServerId(1), ServerId(9 << 96)], vec![ServerId(2)]];
        let repaired = Difference { partition: 8, entry, wrong: vec![ServerId(2)], groups };
        let status = |id: u128, differences| ServerStatus {
            server: ServerId(id),
            store: StoreId(id),
            incarnation: Incarnation(1),
            address: format!("h{id}:5001"),
            ecs: String::new(),
            view: Epoch::default(),
            copies: Vec::new(),
            keys: 0,
            expiring: 0,
            bytes: 0,
            free_bytes: 0,
            transfers: Vec::new(),
            caught_up: Default::default(),
            scrub: Default::default(),
            compared: ComparedStatus { equal: 3, differences },
        };
        assert_eq!(shown(&[status(1, vec![]), status(2, vec![])]), "");
        let text = shown(&[status(1, vec![undecided]), status(2, vec![repaired])]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("COPIES DIFFER: partition 7, at entry 4.17: h1:5001 / h2:5001. "),
            "{text}"
        );
        assert_eq!(
            lines[1],
            "repaired: partition 8 differed at entry 4.17: h1:5001, 00000009 / h2:5001; h2:5001 was filled anew"
        );
    }
}
