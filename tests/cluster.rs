//! Clusters of real processes: what they do for clients, and what clients notice when servers come and go, as planned
//! or not. The one answer to the last is: nothing but a wait.

mod support;

mod cluster {
    mod admin;
    mod basics;
    mod bench;
    mod changes;
    mod damage;
    mod differs;
    mod ecs;
    mod failures;
    mod leaving;
    mod rebuild;
    mod returns;
    mod trace;
    mod watch;
}
