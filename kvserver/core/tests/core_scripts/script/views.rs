//! Views that reach servers.

use std::sync::Arc;

use common::ids::{Incarnation, Nonce, RebuildId, ServerId, StoreId};
use common::messages::ProcessId;
use common::view::{Assignment, ServerInfo, ServerState, View};
use kvserver_core::Input;

use super::super::host::{Host, P};
use super::super::show;
use super::Script;
use super::words::{epoch, member, number, option, server, servers};

impl Script {
    pub(super) fn view(&mut self, version: &str, coordinator: &str, in_sync: &str, options: &[&str]) {
        let joining = option(options, "join").map(servers).unwrap_or_default();
        let version = epoch(version);
        let assignment = Assignment {
            epoch: option(options, "epoch").map_or(version, epoch),
            coordinator: server(coordinator),
            in_sync: servers(in_sync).into_iter().map(member).collect(),
            joining: joining.iter().copied().map(member).collect(),
        };
        // The ECS has heard of all processes that run, unless the script says otherwise.
        let unnamed = option(options, "unnamed").map(servers).unwrap_or_default();
        let started = |id: &ServerId| self.hosts.get(id).filter(|_| !unnamed.contains(id)).map(Host::sender);
        let former = |id: &ServerId| self.view.servers.get(id).map(|info| info.process(*id));
        let twins = option(options, "twin").map(servers).unwrap_or_default();
        let process = |id: ServerId| {
            let other =
                ProcessId { server: id, store: StoreId(id.0), incarnation: Incarnation(1), nonce: Nonce(1) };
            started(&id).or(former(&id)).unwrap_or(other)
        };
        let info = |id: ServerId| ServerInfo {
            store: StoreId(id.0),
            incarnation: process(id).incarnation,
            nonce: if twins.contains(&id) { Nonce(99) } else { process(id).nonce },
            address: format!("{}:1", show::name(id)),
            weight: 1,
            state: ServerState::Up,
        };
        let mut view = View { number: version, assignments: vec![assignment], ..View::clone(&self.view) };
        view.servers.extend(servers(in_sync).into_iter().chain(joining).map(|id| (id, info(id))));
        view.paused = options.contains(&"paused");
        view.min_copies = option(options, "min").map_or(1, |text| text.parse().expect("few copies"));
        view.rebuild = option(options, "rebuild").map(|text| RebuildId(u128::from(number(text))));
        let counted = option(options, "counted").map(servers).unwrap_or_default();
        view.counted = counted.into_iter().map(|id| StoreId(id.0)).collect();
        view.forced.extend(option(options, "forced").map(|version| (P, epoch(version))));
        view.resumed.extend(option(options, "resumed").map(|version| (P, epoch(version))));
        self.view = Arc::new(view);
        let running = |(&id, host): (&ServerId, &Host)| host.node.is_some().then_some(id);
        let all: Vec<ServerId> = self.hosts.iter().filter_map(running).collect();
        for to in option(options, "to").map_or(all, servers) {
            let view = Arc::clone(&self.view);
            self.step(to, Input::View(view));
        }
    }
}
