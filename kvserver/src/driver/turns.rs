//! Requests that wait for the core, in a queue of each connection, and of each server that passes requests on. The
//! queues take turns: a client that has asked for much waits behind its own requests, and the others do not. The
//! requests of one queue keep their order.
//!
//! Pings, acknowledgements and other messages that servers wait for do not come here: the core takes them at once.

use std::collections::{BTreeMap, VecDeque};

use common::ids::ServerId;

/// The source of requests, which has a queue of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flow {
    /// A connection's, by the address of its outbox.
    Client(usize),
    /// Requests that a server passes on: they may be those of many clients.
    Server(ServerId),
}

impl Flow {
    /// Requests that a queue may ask in one turn.
    fn at_once(self) -> usize {
        match self {
            Self::Client(_) => 8,
            Self::Server(_) => 64,
        }
    }
}

/// Whether a request may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    /// The room that it needs is taken; requests of other queues may pass it.
    Wait,
    /// No further request may go in this batch.
    Over,
}

/// The result of a look at the requests that wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    Go(T),
    /// No request waits, or the room that they need is taken.
    Blocked,
    /// The next one may go in the next batch.
    Over,
}

/// The queues of waiting requests, one for each [`Flow`], and whose turn it is.
#[derive(Debug)]
pub(super) struct Turns<T> {
    queues: BTreeMap<Flow, VecDeque<T>>,
    /// The queues that have requests, the next one first.
    ring: VecDeque<Flow>,
    /// Requests that the first queue may still ask in its turn.
    left: usize,
    len: usize,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), ring: VecDeque::new(), left: 0, len: 0 }
    }
}

impl<T> Turns<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many requests wait in one queue.
    pub(super) fn len_of(&self, flow: Flow) -> usize {
        self.queues.get(&flow).map_or(0, VecDeque::len)
    }

    pub(super) fn push(&mut self, flow: Flow, request: T) {
        let queue = self.queues.entry(flow).or_insert_with(|| {
            self.ring.push_back(flow);
            VecDeque::new()
        });
        queue.push_back(request);
        self.len += 1;
    }

    /// The next request that may go.
    pub(super) fn next(&mut self, mut judge: impl FnMut(&T) -> Verdict) -> Next<T> {
        for _ in 0..self.ring.len() {
            let Some((flow, queue)) =
                self.ring.front().and_then(|flow| Some((*flow, self.queues.get_mut(flow)?)))
            else {
                break;
            };
            match queue.front().map_or(Verdict::Wait, &mut judge) {
                Verdict::Over => return Next::Over,
                Verdict::Wait => self.turn(),
                Verdict::Go => {
                    let Some(request) = queue.pop_front() else { break };
                    self.len -= 1;
                    if self.left == 0 {
                        self.left = flow.at_once();
                    }
                    self.left -= 1;
                    if queue.is_empty() {
                        self.queues.remove(&flow);
                        self.ring.pop_front();
                        self.left = 0;
                    } else if self.left == 0 {
                        self.turn();
                    }
                    return Next::Go(request);
                }
            }
        }
        Next::Blocked
    }

    /// The next queue's turn.
    fn turn(&mut self) {
        self.ring.rotate_left(1);
        self.left = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: Flow = Flow::Client(1);
    const FEW: Flow = Flow::Client(2);
    const SERVER: Flow = Flow::Server(ServerId(3));

    fn all(turns: &mut Turns<(Flow, usize)>) -> Vec<(Flow, usize)> {
        let mut taken = Vec::new();
        while let Next::Go(request) = turns.next(|_| Verdict::Go) {
            taken.push(request);
        }
        taken
    }

    #[test]
    fn few_requests_do_not_wait_behind_many() {
        let mut turns = Turns::default();
        (0..1000).for_each(|n| turns.push(MANY, (MANY, n)));
        (0..200).for_each(|n| turns.push(SERVER, (SERVER, n)));
        turns.push(FEW, (FEW, 0));
        let taken = all(&mut turns);
        let position = taken.iter().position(|request| *request == (FEW, 0)).unwrap();
        assert_eq!(position, MANY.at_once() + SERVER.at_once());
        for flow in [MANY, SERVER, FEW] {
            let of: Vec<usize> =
                taken.iter().filter(|request| request.0 == flow).map(|request| request.1).collect();
            assert!(of.is_sorted() && !of.is_empty(), "{flow:?} keeps its order");
        }
        assert!(taken.len() == 1201 && turns.is_empty() && turns.queues.is_empty() && turns.ring.is_empty());
    }

    #[test]
    fn who_must_wait_is_passed_by_others_and_keeps_its_order() {
        let mut turns = Turns::default();
        (0..20).for_each(|n| turns.push(MANY, (MANY, n)));
        turns.push(FEW, (FEW, 0));
        let waits = |request: &(Flow, usize)| if request.0 == MANY { Verdict::Wait } else { Verdict::Go };
        assert_eq!(turns.next(waits), Next::Go((FEW, 0)));
        assert_eq!(turns.next(waits), Next::Blocked);
        assert_eq!(turns.len_of(MANY), 20);
        assert_eq!(turns.next(|_| Verdict::Go), Next::Go((MANY, 0)));
        assert_eq!(turns.next(|_| Verdict::Over), Next::Over);
        assert_eq!(turns.next(|_| Verdict::Go), Next::Go((MANY, 1)));
        assert_eq!(turns.len(), 18);
    }
}
