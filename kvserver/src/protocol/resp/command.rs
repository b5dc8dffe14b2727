//! The table of commands: their names, how many words they take, where their keys are, and the functions that carry
//! them out.

use bytes::Bytes;

use super::spec::{Run, Spec};
use super::words::Refusal;
use super::{client, config, describe, expiry, local, parse, scripts, transactions};

/// Bytes of the words that the error for an unknown command repeats, as in Redis.
const WORDS_SHOWN_BYTES: usize = 128;

/// All commands, in the order of their names.
#[rustfmt::skip]
pub(super) const COMMANDS: &[Spec] = &[
    Spec { name: "APPEND", arity: 3, flags: "wmF", keys: (1, 1, 1), group: "string", since: "2.0.0",
        summary: "Appends a string to the value of a key.", run: Run::Keys(parse::append) },
    Spec { name: "ASKING", arity: 1, flags: "F", keys: (0, 0, 0), group: "cluster", since: "3.0.0",
        summary: "Does nothing: every server answers every key.", run: Run::Local(local::ok) },
    Spec { name: "AUTH", arity: -2, flags: "nsF", keys: (0, 0, 0), group: "connection", since: "1.0.0",
        summary: "Refused: there are no passwords.", run: Run::Local(local::auth) },
    Spec { name: "CLIENT", arity: -2, flags: "n", keys: (0, 0, 0), group: "connection", since: "2.4.0",
        summary: "About this connection and others of this server.", run: Run::Local(client::client) },
    Spec { name: "CLUSTER", arity: -2, flags: "", keys: (0, 0, 0), group: "cluster", since: "3.0.0",
        summary: "Refused: clients need no cluster mode.", run: Run::Local(local::cluster) },
    Spec { name: "COMMAND", arity: -1, flags: "l", keys: (0, 0, 0), group: "server", since: "2.8.13",
        summary: "Describes the commands.", run: Run::Local(describe::command) },
    Spec { name: "CONFIG", arity: -2, flags: "an", keys: (0, 0, 0), group: "server", since: "2.0.0",
        summary: "Returns settings that clients ask for.", run: Run::Local(config::config) },
    Spec { name: "DBSIZE", arity: 1, flags: "rF", keys: (0, 0, 0), group: "server", since: "1.0.0",
        summary: "Counts the keys of the whole cluster.", run: Run::Wide(local::dbsize) },
    Spec { name: "DECR", arity: 2, flags: "wmF", keys: (1, 1, 1), group: "string", since: "1.0.0",
        summary: "Subtracts one from the number of a key.", run: Run::Keys(parse::decr) },
    Spec { name: "DECRBY", arity: 3, flags: "wmF", keys: (1, 1, 1), group: "string", since: "1.0.0",
        summary: "Subtracts from the number of a key.", run: Run::Keys(parse::decrby) },
    Spec { name: "DEL", arity: -2, flags: "w", keys: (1, -1, 1), group: "generic", since: "1.0.0",
        summary: "Removes keys.", run: Run::Keys(parse::del) },
    Spec { name: "DELEX", arity: -2, flags: "wF", keys: (1, 1, 1), group: "string", since: "8.4.0",
        summary: "Removes a key if its value is, or is not, the given one.", run: Run::Keys(parse::delex) },
    Spec { name: "DELIFEQ", arity: 3, flags: "wF", keys: (1, 1, 1), group: "string", since: "9.0.0",
        summary: "Removes a key if its value is the given one.", run: Run::Keys(parse::delifeq) },
    Spec { name: "DISCARD", arity: 1, flags: "nF", keys: (0, 0, 0), group: "transactions", since: "2.0.0",
        summary: "Forgets a transaction.", run: Run::Local(transactions::discard) },
    Spec { name: "ECHO", arity: 2, flags: "F", keys: (0, 0, 0), group: "connection", since: "1.0.0",
        summary: "Returns its argument.", run: Run::Local(local::echo) },
    Spec { name: "EVAL", arity: -3, flags: "n", keys: (0, 0, 0), group: "scripting", since: "2.6.0",
        summary: "Carries out one of the known scripts that keep locks.", run: Run::Keys(scripts::eval) },
    Spec { name: "EVALSHA", arity: -3, flags: "n", keys: (0, 0, 0), group: "scripting", since: "2.6.0",
        summary: "Carries out one of the known scripts that keep locks.", run: Run::Keys(scripts::evalsha) },
    Spec { name: "EXEC", arity: 1, flags: "n", keys: (0, 0, 0), group: "transactions", since: "1.2.0",
        summary: "Carries out a transaction.", run: Run::Local(transactions::exec) },
    Spec { name: "EXISTS", arity: -2, flags: "rF", keys: (1, -1, 1), group: "generic", since: "1.0.0",
        summary: "Counts which of the keys are there.", run: Run::Keys(parse::exists) },
    Spec { name: "EXPIRE", arity: -3, flags: "wF", keys: (1, 1, 1), group: "generic", since: "1.0.0",
        summary: "Sets the expiry of a key in seconds from now.", run: Run::Keys(expiry::expire) },
    Spec { name: "EXPIREAT", arity: -3, flags: "wF", keys: (1, 1, 1), group: "generic", since: "1.2.0",
        summary: "Sets the expiry of a key to a Unix time.", run: Run::Keys(expiry::expireat) },
    Spec { name: "EXPIRETIME", arity: 2, flags: "rF", keys: (1, 1, 1), group: "generic", since: "7.0.0",
        summary: "Returns the Unix time at which a key expires.", run: Run::Keys(expiry::expiretime) },
    Spec { name: "FLUSHALL", arity: -1, flags: "w", keys: (0, 0, 0), group: "server", since: "1.0.0",
        summary: "Removes all keys of the cluster.", run: Run::Wide(local::flush) },
    Spec { name: "FLUSHDB", arity: -1, flags: "w", keys: (0, 0, 0), group: "server", since: "1.0.0",
        summary: "Removes all keys of the cluster.", run: Run::Wide(local::flush) },
    Spec { name: "GET", arity: 2, flags: "rF", keys: (1, 1, 1), group: "string", since: "1.0.0",
        summary: "Returns the value of a key.", run: Run::Keys(parse::get) },
    Spec { name: "GETDEL", arity: 2, flags: "wF", keys: (1, 1, 1), group: "string", since: "6.2.0",
        summary: "Returns the value of a key and removes it.", run: Run::Keys(parse::getdel) },
    Spec { name: "GETEX", arity: -2, flags: "wF", keys: (1, 1, 1), group: "string", since: "6.2.0",
        summary: "Returns the value of a key and sets its expiry.", run: Run::Keys(parse::getex) },
    Spec { name: "GETRANGE", arity: 4, flags: "r", keys: (1, 1, 1), group: "string", since: "2.4.0",
        summary: "Returns a part of the value of a key.", run: Run::Keys(parse::getrange) },
    Spec { name: "GETSET", arity: 3, flags: "wmF", keys: (1, 1, 1), group: "string", since: "1.0.0",
        summary: "Sets the value of a key and returns the former one.", run: Run::Keys(parse::getset) },
    Spec { name: "HELLO", arity: -1, flags: "nsF", keys: (0, 0, 0), group: "connection", since: "6.0.0",
        summary: "Begins a connection and chooses the protocol.", run: Run::Local(local::hello) },
    Spec { name: "INCR", arity: 2, flags: "wmF", keys: (1, 1, 1), group: "string", since: "1.0.0",
        summary: "Adds one to the number of a key.", run: Run::Keys(parse::incr) },
    Spec { name: "INCRBY", arity: 3, flags: "wmF", keys: (1, 1, 1), group: "string", since: "1.0.0",
        summary: "Adds to the number of a key.", run: Run::Keys(parse::incrby) },
    Spec { name: "INCRBYFLOAT", arity: 3, flags: "wmF", keys: (1, 1, 1), group: "string", since: "2.6.0",
        summary: "Adds to the decimal number of a key.", run: Run::Keys(parse::incrbyfloat) },
    Spec { name: "INFO", arity: -1, flags: "l", keys: (0, 0, 0), group: "server", since: "1.0.0",
        summary: "Returns facts about this server.", run: Run::Wide(local::info) },
    Spec { name: "KEYS", arity: 2, flags: "r", keys: (0, 0, 0), group: "generic", since: "1.0.0",
        summary: "Returns all keys of the cluster that fit a pattern.", run: Run::Wide(local::keys) },
    Spec { name: "LATENCY", arity: -2, flags: "an", keys: (0, 0, 0), group: "server", since: "2.8.13",
        summary: "Refers to the metrics.", run: Run::Local(local::latency) },
    Spec { name: "MEMORY", arity: -2, flags: "r", keys: (0, 0, 0), group: "server", since: "4.0.0",
        summary: "Returns the bytes that a key takes.", run: Run::Keys(parse::memory) },
    Spec { name: "MGET", arity: -2, flags: "rF", keys: (1, -1, 1), group: "string", since: "1.0.0",
        summary: "Returns the values of keys.", run: Run::Keys(parse::mget) },
    Spec { name: "MSET", arity: -3, flags: "wm", keys: (1, -1, 2), group: "string", since: "1.0.1",
        summary: "Sets the values of keys, each by itself.", run: Run::Keys(parse::mset) },
    Spec { name: "MSETNX", arity: -3, flags: "wm", keys: (1, -1, 2), group: "string", since: "1.0.1",
        summary: "Sets the values of keys if none of them is there.", run: Run::Keys(parse::msetnx) },
    Spec { name: "MULTI", arity: 1, flags: "nF", keys: (0, 0, 0), group: "transactions", since: "1.2.0",
        summary: "Begins a transaction.", run: Run::Local(transactions::multi) },
    Spec { name: "OBJECT", arity: -2, flags: "r", keys: (2, 2, 1), group: "generic", since: "2.2.3",
        summary: "Returns the encoding that Redis would use for a value.", run: Run::Keys(parse::object) },
    Spec { name: "PERSIST", arity: 2, flags: "wF", keys: (1, 1, 1), group: "generic", since: "2.2.0",
        summary: "Removes the expiry of a key.", run: Run::Keys(expiry::persist) },
    Spec { name: "PEXPIRE", arity: -3, flags: "wF", keys: (1, 1, 1), group: "generic", since: "2.6.0",
        summary: "Sets the expiry of a key in milliseconds from now.", run: Run::Keys(expiry::pexpire) },
    Spec { name: "PEXPIREAT", arity: -3, flags: "wF", keys: (1, 1, 1), group: "generic", since: "2.6.0",
        summary: "Sets the expiry of a key to a Unix time in milliseconds.", run: Run::Keys(expiry::pexpireat) },
    Spec { name: "PEXPIRETIME", arity: 2, flags: "rF", keys: (1, 1, 1), group: "generic", since: "7.0.0",
        summary: "Returns the Unix time in milliseconds at which a key expires.", run: Run::Keys(expiry::pexpiretime) },
    Spec { name: "PING", arity: -1, flags: "F", keys: (0, 0, 0), group: "connection", since: "1.0.0",
        summary: "Answers.", run: Run::Local(local::ping) },
    Spec { name: "PSETEX", arity: 4, flags: "wm", keys: (1, 1, 1), group: "string", since: "2.6.0",
        summary: "Sets the value of a key with an expiry in milliseconds.", run: Run::Keys(parse::psetex) },
    Spec { name: "PTTL", arity: 2, flags: "rF", keys: (1, 1, 1), group: "generic", since: "2.6.0",
        summary: "Returns the milliseconds until a key expires.", run: Run::Keys(expiry::pttl) },
    Spec { name: "QUIT", arity: -1, flags: "nsF", keys: (0, 0, 0), group: "connection", since: "1.0.0",
        summary: "Ends the connection.", run: Run::Local(local::quit) },
    Spec { name: "RANDOMKEY", arity: 1, flags: "r", keys: (0, 0, 0), group: "generic", since: "1.0.0",
        summary: "Returns a random key.", run: Run::Wide(local::randomkey) },
    Spec { name: "READONLY", arity: 1, flags: "F", keys: (0, 0, 0), group: "cluster", since: "3.0.0",
        summary: "Does nothing: every read is current at every server.", run: Run::Local(local::ok) },
    Spec { name: "READWRITE", arity: 1, flags: "F", keys: (0, 0, 0), group: "cluster", since: "3.0.0",
        summary: "Does nothing.", run: Run::Local(local::ok) },
    Spec { name: "RESET", arity: 1, flags: "nsF", keys: (0, 0, 0), group: "connection", since: "6.2.0",
        summary: "Makes the connection as it was at its beginning.", run: Run::Local(local::reset) },
    Spec { name: "ROLE", arity: 1, flags: "nF", keys: (0, 0, 0), group: "server", since: "2.8.12",
        summary: "Reports that every server takes writes.", run: Run::Local(local::role) },
    Spec { name: "SCAN", arity: -2, flags: "r", keys: (0, 0, 0), group: "generic", since: "2.8.0",
        summary: "Goes over the keys of the cluster.", run: Run::Wide(local::scan) },
    Spec { name: "SCRIPT", arity: -2, flags: "n", keys: (0, 0, 0), group: "scripting", since: "2.6.0",
        summary: "Knows the scripts that keep locks.", run: Run::Local(scripts::script) },
    Spec { name: "SELECT", arity: 2, flags: "F", keys: (0, 0, 0), group: "connection", since: "1.0.0",
        summary: "Takes the one database that there is.", run: Run::Local(local::select) },
    Spec { name: "SET", arity: -3, flags: "wm", keys: (1, 1, 1), group: "string", since: "1.0.0",
        summary: "Sets the value of a key.", run: Run::Keys(parse::set_command) },
    Spec { name: "SETEX", arity: 4, flags: "wm", keys: (1, 1, 1), group: "string", since: "2.0.0",
        summary: "Sets the value of a key with an expiry in seconds.", run: Run::Keys(parse::setex) },
    Spec { name: "SETNX", arity: 3, flags: "wmF", keys: (1, 1, 1), group: "string", since: "1.0.0",
        summary: "Sets the value of a key if it is not there.", run: Run::Keys(parse::setnx) },
    Spec { name: "SETRANGE", arity: 4, flags: "wm", keys: (1, 1, 1), group: "string", since: "2.2.0",
        summary: "Overwrites a part of the value of a key.", run: Run::Keys(parse::setrange) },
    Spec { name: "SLOWLOG", arity: -2, flags: "an", keys: (0, 0, 0), group: "server", since: "2.2.12",
        summary: "An empty list: nothing is collected.", run: Run::Local(local::slowlog) },
    Spec { name: "STRLEN", arity: 2, flags: "rF", keys: (1, 1, 1), group: "string", since: "2.2.0",
        summary: "Returns the length of the value of a key.", run: Run::Keys(parse::strlen) },
    Spec { name: "SUBSTR", arity: 4, flags: "r", keys: (1, 1, 1), group: "string", since: "1.0.0",
        summary: "The same as GETRANGE.", run: Run::Keys(parse::getrange) },
    Spec { name: "TIME", arity: 1, flags: "lF", keys: (0, 0, 0), group: "server", since: "2.6.0",
        summary: "Returns the time of this server.", run: Run::Local(local::time) },
    Spec { name: "TOUCH", arity: -2, flags: "rF", keys: (1, -1, 1), group: "generic", since: "3.2.1",
        summary: "Counts which of the keys are there.", run: Run::Keys(parse::exists) },
    Spec { name: "TTL", arity: 2, flags: "rF", keys: (1, 1, 1), group: "generic", since: "1.0.0",
        summary: "Returns the seconds until a key expires.", run: Run::Keys(expiry::ttl) },
    Spec { name: "TYPE", arity: 2, flags: "rF", keys: (1, 1, 1), group: "generic", since: "1.0.0",
        summary: "Returns the type of a value.", run: Run::Keys(parse::type_command) },
    Spec { name: "UNLINK", arity: -2, flags: "wF", keys: (1, -1, 1), group: "generic", since: "4.0.0",
        summary: "Removes keys.", run: Run::Keys(parse::del) },
    Spec { name: "UNWATCH", arity: 1, flags: "nF", keys: (0, 0, 0), group: "transactions", since: "2.2.0",
        summary: "Watches no key any more.", run: Run::Local(transactions::unwatch) },
    Spec { name: "WAIT", arity: 3, flags: "b", keys: (0, 0, 0), group: "generic", since: "3.0.0",
        summary: "Returns the copies that every acknowledged write has besides the \
            first.", run: Run::Local(local::wait) },
    Spec { name: "WATCH", arity: -2, flags: "nF", keys: (1, -1, 1), group: "transactions", since: "2.2.0",
        summary: "A transaction is carried out only if these keys stay as they are.",
        run: Run::Wide(transactions::watch) },
];

/// The command of this name, in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static Spec> {
    Spec::find(COMMANDS, name)
}

/// Whether there is a command of this name, in any case.
#[must_use]
pub fn is_command(name: &[u8]) -> bool {
    find(name).is_some()
}

/// The error for an unknown command.
pub(super) fn unknown(words: &[Bytes]) -> Refusal {
    let shown = |word: &[u8], max: usize| String::from_utf8_lossy(&word[..word.len().min(max)]).into_owned();
    let mut text =
        format!("ERR unknown command '{}', with args beginning with: ", shown(&words[0], WORDS_SHOWN_BYTES));
    let mut left = WORDS_SHOWN_BYTES;
    for word in &words[1..] {
        if left == 0 {
            break;
        }
        text.push_str(&format!("'{}' ", shown(word, left)));
        left -= left.min(word.len());
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::super::spec::NAME_BYTES_MAX;
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_are_found_in_any_case() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for spec in COMMANDS {
            assert!(spec.name.len() <= NAME_BYTES_MAX);
            assert_eq!(find(spec.lower().as_bytes()).unwrap().name, spec.name);
        }
        assert!(find(b"").is_none() && find(b"HSET").is_none() && find(&[b'X'; 99]).is_none());
    }

    #[test]
    fn keys_are_where_the_table_says() {
        assert_eq!(find(b"mset").unwrap().key_positions(5), [1, 3]);
        assert_eq!(find(b"del").unwrap().key_positions(4), [1, 2, 3]);
        assert_eq!(find(b"get").unwrap().key_positions(2), [1]);
        assert!(find(b"ping").unwrap().key_positions(1).is_empty());
    }

    #[test]
    fn unknown_commands_are_named_as_in_redis() {
        let words = ["HSET", "k", "f"].map(Bytes::from);
        assert_eq!(unknown(&words), "ERR unknown command 'HSET', with args beginning with: 'k' 'f' ");
    }
}
