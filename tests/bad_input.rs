//! What people, programs and machines do wrong, and what they are told. Whatever comes in, the process goes on and
//! serves others; whatever cannot go on says why and what to do.

mod support;

mod bad_input {
    mod connections;
    mod disks;
    mod exit_codes;
    mod flags;
    mod junk;
    mod memory;
    mod peers;
    mod places;
}
