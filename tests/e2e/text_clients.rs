//! Old clients: lines over plain sockets, as people, `nc` and the family's programs send them.

mod family;
mod lines;
mod ranges;
