//! What the programs are made of: `dependencies.toml` says what may be in them, `THIRD-PARTY-NOTICES` goes with them.
//! Nothing is built and nothing is fetched for it: Cargo.lock, `cargo metadata`, and the sources that cargo has.

mod graph;
mod licence;
mod notices;
mod policy;
