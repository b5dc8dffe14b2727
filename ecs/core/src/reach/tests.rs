//! The choice alone. With time and a whole ECS: `ecs/core/tests/cuts.rs`.

use super::*;

fn ids(names: &str) -> Vec<ServerId> {
    names.bytes().map(|name| ServerId(u128::from(name))).collect()
}

/// Edges such as `ab cd`.
fn edges(pairs: &str) -> BTreeSet<Edge> {
    pairs.split_whitespace().map(|pair| edge(ids(pair)[0], ids(pair)[1])).collect()
}

/// The coordinator, and behind a minus the members that leave; the first of `members` coordinates now.
fn chosen(members: &str, pairs: &str, minimum: usize) -> String {
    chosen_early(members, pairs, pairs, minimum)
}

/// Of all that are `reported`, only `pairs` count yet.
fn chosen_early(members: &str, pairs: &str, reported: &str, minimum: usize) -> String {
    let (members, edges, reported) = (ids(members), edges(pairs), edges(reported));
    let (coordinator, members) = (members[0], &members[..]);
    let choice = choose(&Problem { coordinator, members, edges: &edges, reported: &reported, minimum });
    let name = |server: ServerId| u8::try_from(server.0).map(char::from).unwrap();
    let leave: String = choice.leave.iter().map(|&server| name(server)).collect();
    format!("{}-{leave}", name(choice.coordinator))
}

#[test]
fn without_an_edge_nothing_changes() {
    assert_eq!(chosen("bac", "", 2), "b-");
    assert_eq!(chosen("bac", "de", 2), "b-");
    assert_eq!(chosen("b", "bd", 2), "b-");
}

#[test]
fn edges_to_other_servers_change_nothing_where_members_hear_each_other() {
    assert_eq!(chosen("abc", "ad ae", 2), "a-");
    assert_eq!(chosen_early("abc", "ad", "ad ab", 2), "a-", "that one may not last");
}

#[test]
fn a_server_that_is_cut_off_takes_no_coordinator_along_when_its_edges_count_one_by_one() {
    assert_eq!(chosen_early("bac", "ab", "ab ac ad", 2), "b-a");
    assert_eq!(chosen_early("bac", "ac", "ab ac ad", 2), "b-");
    assert_eq!(chosen_early("abc", "ac", "ab ac ad", 2), "b-", "it leaves when `ab` counts");
}

#[test]
fn a_coordinator_without_its_members_goes_out_of_office_and_then_out() {
    assert_eq!(chosen("abc", "ab ac ad ae", 2), "b-a");
    assert_eq!(chosen("cab", "ca cb", 1), "a-c");
}

#[test]
fn a_member_without_the_others_goes() {
    assert_eq!(chosen("abc", "ca cb cd ce", 2), "a-c");
}

#[test]
fn one_cut_link_costs_no_copy_where_a_third_member_reaches_both_ends() {
    assert_eq!(chosen("abc", "ab", 2), "c-");
    assert_eq!(chosen("abc", "bc", 2), "a-");
}

#[test]
fn where_two_are_left_the_one_with_fewer_edges_elsewhere_coordinates_and_both_stay() {
    assert_eq!(chosen("ab", "ab ac ad", 2), "b-");
    assert_eq!(chosen("ab", "ab", 2), "a-");
    assert_eq!(chosen("ab", "ab ac ad", 1), "b-a");
}

#[test]
fn in_a_ring_who_lies_between_the_others_goes() {
    let ring = "ab bc cd de ea";
    assert_eq!(chosen("abc", ring, 2), "a-b");
    assert_eq!(chosen("bca", ring, 2), "a-b");
    assert_eq!(chosen("abd", ring, 2), "d-");
}

#[test]
fn a_half_keeps_what_it_needs_or_waits() {
    // a and b on one side, c, d and e on the other.
    let halves = "ac ad ae bc bd be";
    assert_eq!(chosen("abc", halves, 2), "a-c");
    assert_eq!(chosen("acd", halves, 2), "c-a");
    assert_eq!(chosen("ac", halves, 2), "c-");
}

#[test]
fn over_a_bridge_the_bridge_coordinates() {
    // c reaches all; a and b do not reach d and e.
    let bridge = "ad ae bd be";
    assert_eq!(chosen("acd", bridge, 2), "c-");
    assert_eq!(chosen("abd", bridge, 2), "a-d");
}

#[test]
fn never_fewer_stay_than_a_write_needs_whatever_is_said() {
    let servers = ids("abcde");
    let all: Vec<Edge> = servers
        .iter()
        .flat_map(|&one| servers.iter().map(move |&other| (one, other)))
        .filter(|(a, b)| a < b)
        .collect();
    for picked in 0_u32..1 << all.len() {
        let edges: BTreeSet<Edge> = all
            .iter()
            .enumerate()
            .filter(|(index, _)| picked >> index & 1 == 1)
            .map(|(_, &edge)| edge)
            .collect();
        for members in ["abc", "bde", "ac", "d"] {
            for minimum in 1..=3 {
                let members = ids(members);
                let problem = Problem {
                    coordinator: members[0],
                    members: &members,
                    edges: &edges,
                    reported: &edges,
                    minimum,
                };
                let choice = choose(&problem);
                let stays: Vec<ServerId> =
                    members.iter().copied().filter(|member| !choice.leave.contains(member)).collect();
                assert!(stays.contains(&choice.coordinator), "{problem:?}");
                assert!(stays.len() >= members.len().min(minimum), "{problem:?}");
                // It comes to rest: made again of what it has left, no member leaves, and then nothing changes.
                let again = choose(&Problem { members: &stays, coordinator: choice.coordinator, ..problem });
                assert!(again.leave.is_empty(), "{problem:?}");
                let rest = choose(&Problem { members: &stays, coordinator: again.coordinator, ..problem });
                assert_eq!(rest, again, "{problem:?}");
            }
        }
    }
}
