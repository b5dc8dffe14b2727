//! R6: which servers are asked for a report of their copies, and what they answer.
//!
//! At first it *gathers*: it asks every server that comes for a promise of one generation, above all that any of them
//! has seen, and asks all of them anew when it learns of a later one. Gathering ends when all that were asked, and all
//! that the reported views name, have promised that generation, or after [`GATHER_FOR`]. From the first view on the
//! generation stays: a server that comes later promises it too, or is refused if it has seen a later one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::ids::{Epoch, PartitionId, RebuildId, ServerId};
use common::leaps::{generation_leaps, view_leaps};
use common::messages::{LogTail, ProcessId, Promised};
use common::ring::Partitions;
use common::time::Time;
use common::view::{Member, View};

use super::asking::Asked;
use super::{Ecs, Effect};
use crate::limits::{ASK_AGAIN, GATHER_FOR};
use crate::next::Holding;
use crate::rebuild::{Rebuild, Report};
use crate::refusal::Refusal;
use crate::reports::Registration;
use crate::state::State;

impl Ecs {
    pub(super) fn newest(&self) -> &State {
        self.persists.under_way.as_ref().map_or(&self.durable, |persisting| &persisting.state)
    }

    /// The rebuild that this ECS came of, and the generation of its views: 0 while it gathers.
    fn rebuild(&self) -> Option<&Rebuild> {
        self.newest().rebuild.as_ref()
    }

    fn gathers(&self) -> bool {
        self.rebuild().is_some_and(|rebuild| rebuild.generation == 0)
    }

    /// The highest generation that is known: of its views, or asked for while it gathers.
    pub(super) fn known_generation(&self) -> u32 {
        self.newest().view.number.generation.max(self.asking.wanted)
    }

    /// What a server is asked for.
    fn promise(&self) -> Option<Promised> {
        let rebuild = self.rebuild()?;
        let generation = if rebuild.generation == 0 { self.asking.wanted } else { rebuild.generation };
        Some(Promised { generation, rebuild: rebuild.id })
    }

    /// A server without a view of this rebuild must report before it counts. That includes a server with no view at
    /// all, which other servers' views may name, and one that has reported before: its disk may have gone back since,
    /// and without its promise it would refuse all views.
    fn must_report(&self, of: Option<RebuildId>) -> bool {
        self.rebuild().is_some_and(|rebuild| of != Some(rebuild.id))
    }

    /// Whether a view is of an older generation: such a one is no sign that this ECS runs on an old copy of its
    /// directory.
    pub(super) fn is_of_before(&self, view: Epoch) -> bool {
        self.rebuild().is_some_and(|rebuild| rebuild.generation == 0 || view.generation < rebuild.generation)
    }

    /// Why a server that must report need not be asked; `None`: it may come.
    pub(super) fn refusal_of_foreign(&self, view: Epoch, of: Option<RebuildId>) -> Option<Refusal> {
        let own = self.durable.view.number;
        let later = |seen| Some(Refusal::LaterRebuild { seen, own: own.generation });
        if self.must_report(of) {
            return if self.is_of_before(view) { None } else { later(view.generation) };
        }
        (view > own && !self.is_of_before(view)).then_some(Refusal::Behind { server: view, own })
    }

    /// Keeps a hello that cannot be acted on yet. `false`: it can be, and was not kept.
    pub(super) fn hold_back(
        &mut self,
        now: Time,
        registration: &Registration,
        view: Epoch,
        of: Option<RebuildId>,
    ) -> bool {
        if self.rebuild().is_none() {
            return false;
        }
        let sender = registration.sender;
        if !self.must_report(of) {
            return false;
        }
        let newer = |asked: &Asked| {
            let known = asked.registration.sender;
            known.store == sender.store && known.incarnation > sender.incarnation
        };
        if self.asking.asked.get(&sender.server).is_some_and(newer) {
            // A late hello of an older process.
            return true;
        }
        let asked = Asked { registration: registration.clone(), at: now, holding: None };
        self.asking.asked.insert(sender.server, asked);
        self.asking.until.get_or_insert(now + GATHER_FOR);
        self.want(view.generation.saturating_add(1));
        self.ask(sender.server);
        true
    }

    /// While it gathers, a generation that is known to be needed is asked for, of those that promised an older one too.
    fn want(&mut self, generation: u32) {
        if !self.gathers() || generation <= self.asking.wanted {
            return;
        }
        self.asking.wanted = generation;
        let promised = self.asking.asked.iter_mut().filter_map(|(&server, asked)| {
            let had = asked.holding.take();
            had.map(|_| server)
        });
        for server in promised.collect::<Vec<_>>() {
            self.ask(server);
        }
    }

    fn ask(&mut self, to: ServerId) {
        let (Some(asked), Some(promise)) = (self.asking.asked.get(&to), self.promise()) else { return };
        let address = asked.registration.address.clone();
        self.out.effects.push(Effect::Ask { to, address, promise });
    }

    /// Whether a server was asked, so that nothing else that it says counts before it has reported. It is heard, so it
    /// is asked again after a while.
    pub(super) fn awaits(&mut self, now: Time, sender: ProcessId) -> bool {
        let Some(asked) = self.asking.asked.get_mut(&sender.server) else { return false };
        if asked.registration.sender != sender {
            return false;
        }
        if asked.holding.is_none() && now.since(asked.at) >= ASK_AGAIN {
            asked.at = now;
            self.ask(sender.server);
        }
        true
    }

    /// Takes a server's report of its copies; only that of the process that was asked counts.
    pub(super) fn on_holdings(
        &mut self,
        now: Time,
        sender: ProcessId,
        promised: Option<Promised>,
        view: Arc<View>,
        tails: Vec<LogTail>,
    ) {
        let asked = self.asking.asked.get(&sender.server);
        let (Some(_), Some(promise)) =
            (asked.filter(|asked| asked.registration.sender == sender), self.promise())
        else {
            return;
        };
        if let Some(refusal) = self.refusal_of_holdings(promise, promised, &view) {
            let asked = self.asking.asked.remove(&sender.server);
            return self.refuse(now, sender, asked.map(|asked| asked.registration.address), refusal);
        }
        if promised != Some(promise) {
            // Its answer to an earlier question, or it has seen as late a generation elsewhere.
            let other = promised.filter(|promised| promised.rebuild != promise.rebuild);
            let own = promised.filter(|promised| promised.rebuild == promise.rebuild);
            let seen = other.map_or(0, |other| other.generation).max(view.number.generation);
            self.want(own.map_or(0, |own| own.generation).max(seen.saturating_add(1)));
            return self.ask(sender.server);
        }
        let member = Member { server: sender.server, store: sender.store };
        let report = Report::new(sender.server, &tails);
        let view = self.shared(view);
        let holding = Holding { member, generation: promise.generation, view, report };
        if let Some(asked) = self.asking.asked.get_mut(&sender.server) {
            asked.holding = Some((holding, tails));
        }
        self.wanted = true;
        if !self.gathers() {
            self.take_reports(now);
        }
    }

    /// The same view as another server has reported, kept once: a thousand servers report as many.
    fn shared(&self, view: Arc<View>) -> Arc<View> {
        let gathered = self.asking.asked.values().filter_map(|asked| asked.holding.as_ref());
        let mut known = gathered.map(|(holding, _)| &holding.view);
        known.find(|known| known.number == view.number && ***known == *view).cloned().unwrap_or(view)
    }

    /// How many partitions the cluster has: by the newest view, or by what was reported first, while it gathers. The
    /// number never changes, and what is taken of several views is put together by it.
    fn known_ring(&self) -> Option<Partitions> {
        let gathered = self.asking.asked.values().filter_map(|asked| asked.holding.as_ref());
        let reported = self.asking.holdings.iter().chain(gathered.map(|(holding, _)| holding));
        let views = std::iter::once(&self.newest().view).chain(reported.map(|holding| &holding.view));
        views.into_iter().find(|view| !view.assignments.is_empty()).map(|view| view.partitions)
    }

    /// Why a server's report of its copies is not accepted, if it is not.
    fn refusal_of_holdings(
        &self,
        promise: Promised,
        promised: Option<Promised>,
        view: &View,
    ) -> Option<Refusal> {
        let own = &self.newest().view;
        let empty = view.number == Epoch::default() && view.assignments.is_empty();
        let is_whole = !view.assignments.is_empty() && view.check().is_ok();
        if !empty && (!is_whole || view.cluster != own.cluster) {
            return Some(Refusal::Holdings);
        }
        if let Some(own) = self.known_ring().filter(|own| !empty && *own != view.partitions) {
            return Some(Refusal::OtherRing { said: view.partitions, own });
        }
        let own = Epoch { generation: self.known_generation(), ..own.number };
        let leaps = |promised: &Promised| generation_leaps(own.generation, promised.generation);
        if view_leaps(own, view.number) || promised.as_ref().is_some_and(leaps) {
            return Some(Refusal::ViewLeaps { server: view.number, own });
        }
        if self.gathers() {
            return None;
        }
        let seen = promised.filter(|&promised| promised != promise).map_or(0, |other| other.generation);
        let seen = seen.max(view.number.generation);
        if seen >= promise.generation {
            return Some(Refusal::LaterRebuild { seen, own: promise.generation });
        }
        self.unknown_force(view).map(|partition| Refusal::UnknownForce { partition })
    }

    /// A partition that goes on here, and that an operator has let begin anew in a view that no server had reported:
    /// what was acknowledged there since is not in the copies that go on here.
    fn unknown_force(&self, view: &View) -> Option<PartitionId> {
        let (own, rebuild) = (&self.newest().view, self.rebuild()?);
        let unknown = view.forced.iter().find(|&(partition, epoch)| {
            !rebuild.waiting.contains(partition) && own.forced.get(partition) < Some(epoch)
        });
        unknown.map(|(&partition, _)| partition)
    }

    /// Ends the gathering when it is time. `false`: no view is made yet.
    pub(super) fn has_gathered(&mut self, now: Time) -> bool {
        if !self.gathers() {
            return true;
        }
        let over = self.asking.until.is_some_and(|until| until <= now);
        let holdings = || self.asking.asked.values().filter_map(|asked| asked.holding.as_ref());
        let named: BTreeSet<ServerId> =
            holdings().flat_map(|(holding, _)| holding.view.servers.keys().copied()).collect();
        let reported: BTreeSet<ServerId> = holdings().map(|(holding, _)| holding.member.server).collect();
        let all = reported.len() == self.asking.asked.len() && named.is_subset(&reported);
        // Without a view there is nothing to begin with.
        if named.is_empty() || !(over || all) {
            self.timing.wake = self.asking.until.filter(|&until| until > now);
            return false;
        }
        // Servers that are not there yet may come back at any moment.
        self.be_quiet(now);
        self.take_reports(now);
        true
    }

    /// Puts the reports, and the servers that sent them, into the next view.
    fn take_reports(&mut self, now: Time) {
        let (asked, reported) = std::mem::take(&mut self.asking.asked)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, asked)| asked.holding.is_none());
        self.asking.asked = asked;
        for Asked { registration, holding, .. } in reported.into_values() {
            let Some((holding, tails)) = holding else { continue };
            let number = holding.view.number;
            self.asking.holdings.push(holding);
            self.on_hello(now, registration, number, &tails);
        }
    }
}
