//! What operators order in the scripts, and what it would move.

use std::fmt::Write as _;

use common::ids::ServerId;
use ecs_core::plan::{CopyMove, Move};
use ecs_core::{Order, Plan, Unfit};

use super::{Script, id, name};

/// `add SERVER`, `drain SERVER` or `replace OLD NEW`.
pub(super) fn order(words: &[&str]) -> Order {
    let server = |index: usize| id(words[index].chars().next().unwrap());
    match words[0] {
        "add" => Order::Add(server(1)),
        "drain" => Order::Drain(server(1)),
        "replace" => Order::Replace { old: server(1), new: server(2) },
        other => panic!("unknown order `{other}`"),
    }
}

impl Script {
    pub(super) fn plan(&mut self, order: Order) {
        let now = self.now;
        match self.ecs().plan(now, order) {
            Err(unfit) => self.say(&unfit),
            Ok(plan) => {
                let Plan { epoch, copies, copies_least, coordinators, fewer, partitions } = plan;
                let _ = writeln!(
                    self.out,
                    "  for view {epoch}: {copies} copies ({copies_least} at least), {coordinators} coordinators, \
                     {fewer} with fewer"
                );
                let letter = |server: Option<ServerId>| server.map_or('-', name);
                for Move { partition, coordinator, copies } in partitions {
                    let copy = |copy: &CopyMove| format!("{}>{}", letter(copy.from), letter(copy.to));
                    let copies: Vec<String> = copies.iter().map(copy).collect();
                    let (from, to) = (name(coordinator.from), name(coordinator.to));
                    let _ = writeln!(self.out, "    {partition}: {from}*>{to}* {}", copies.join(" "));
                }
            }
        }
    }

    pub(super) fn say(&mut self, unfit: &Unfit) {
        let kind = format!("{unfit:?}");
        let _ = writeln!(self.out, "  not done: {}", kind.split('(').next().unwrap_or_default());
    }
}
