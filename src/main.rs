//! A cluster in a box.
fn main() {}
