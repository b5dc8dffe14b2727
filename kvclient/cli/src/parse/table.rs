//! The names of the commands, and finding one.

use crate::frame::failure::Failure;

/// A command as people see it.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The first is the one that is shown.
    pub(crate) names: &'static [&'static str],
    /// The words after the name, in the notation of `grammar`.
    pub(crate) words: &'static str,
    /// One line for the list of commands.
    pub(crate) what: &'static str,
    /// More, for `help COMMAND`.
    pub(crate) more: &'static str,
    /// Lines that show its use; none where there is nothing to show.
    pub(crate) examples: &'static [&'static str],
}

/// All commands, in the order in which help lists them.
pub(crate) const TABLE: &[Entry] = &[
    Entry {
        names: &["put"],
        words: "KEY VALUE [--if-absent | --if-present] [--ttl TIME]",
        what: "set a value",
        more: "The value is the rest of the line, inner blanks included; quote it to be exact. `put KEY` and `put KEY \
               null` delete, as in other shells of this family; `put KEY \"null\"` and `put KEY -- null` set the text.",
        examples: &["put fruit apple", "put session:7 alive --ttl 30m --if-absent"],
    },
    Entry {
        names: &["get"],
        words: "KEY [--version] [--json]",
        what: "print a value",
        more: "With --version, its version is printed on a line before it. On a terminal a value that is no printable \
               text is shown in quotes, as it could be typed; in a pipe it is what it is.",
        examples: &["get fruit", "get fruit --version"],
    },
    Entry {
        names: &["delete", "del"],
        words: "KEY",
        what: "remove a value",
        more: "",
        examples: &["delete fruit", "del session:7"],
    },
    Entry {
        names: &["append"],
        words: "KEY VALUE",
        what: "add bytes at the end of a value, and print where they begin",
        more: "A value that is not there counts as empty.",
        examples: &["append log first-line", "append fruit s"],
    },
    Entry {
        names: &["cas"],
        words: "KEY --version VERSION VALUE | KEY --value OLD NEW",
        what: "set a value if the one that is there is as expected",
        more: "`get KEY --version` prints a value's version. Exit code 3 when it is another one.",
        examples: &["cas fruit --version 41.7 pear", "cas fruit --value apple pear"],
    },
    Entry {
        names: &["expire"],
        words: "KEY TIME | KEY never",
        what: "let a value end after a time, or stay for ever",
        more: "A time is written 500ms, 10s, 5m, 2h or 1d.",
        examples: &["expire session:7 30m", "expire session:7 never"],
    },
    Entry {
        names: &["scan"],
        words: "[PREFIX] [--limit N] [--json]",
        what: "print keys and values, by partition and then by key",
        more: "One line each, key and value separated by a tab; tab, newline, return and backslash are written \\t \\n \
               \\r \\\\.",
        examples: &["scan session: --limit 10", "scan --json"],
    },
    Entry {
        names: &["watch"],
        words: "KEY [--from VERSION] [--count N] [--json] | --prefix PREFIX [--count N] [--json]",
        what: "print each change of a key or a prefix, as it is made",
        more: "From now on, or first what came after a version. In the shell changes are shown above the line being \
               typed until `unwatch`; elsewhere until Ctrl-C or N changes. What the servers no longer have, or do not \
               know, is printed as a gap. A value that ends by its expiry prints nothing when it does.",
        examples: &["watch fruit --from 41.7", "watch --prefix session: --count 10"],
    },
    Entry {
        names: &["unwatch"],
        words: "[KEY] | --prefix PREFIX",
        what: "end what `watch` has begun in this shell",
        more: "All of it if nothing is named.",
        examples: &["unwatch", "unwatch --prefix session:"],
    },
    Entry {
        names: &["keyrange"],
        words: "[--json]",
        what: "print which server coordinates which keys",
        more: "",
        examples: &["keyrange", "keyrange --json"],
    },
    Entry {
        names: &["keyrange_read"],
        words: "[--json]",
        what: "print which servers have copies of which keys",
        more: "",
        examples: &["keyrange_read", "keyrange_read --json"],
    },
    Entry {
        names: &["status"],
        words: "[--json]",
        what: "print how the cluster and its servers do",
        more: "The first line is the verdict. A lag is the entries of the log by which a server's copies are behind.",
        examples: &["status", "status --json"],
    },
    Entry {
        names: &["events"],
        words: "[--limit N] [--json]",
        what: "print what changed in the cluster last, and why",
        more: "The newest stands last. Without --limit, the last 20.",
        examples: &["events", "events --limit 100 --json"],
    },
    Entry {
        names: &["partitions"],
        words: "[KEY] [--json]",
        what: "print which servers have which partitions, or the one of a key",
        more: "",
        examples: &["partitions", "partitions fruit --json"],
    },
    Entry {
        names: &["connect"],
        words: "HOST PORT",
        what: "use the cluster that this server is in",
        more: "",
        examples: &["connect localhost 5001", "connect localhost:5002"],
    },
    Entry { names: &["disconnect"], words: "", what: "close the connections", more: "", examples: &[] },
    Entry {
        names: &["logLevel"],
        words: "LEVEL",
        what: "set how much is logged",
        more: "off, error, warn, info, debug, trace, or the family's ALL, SEVERE, FATAL.",
        examples: &["logLevel debug", "logLevel ALL"],
    },
    Entry {
        names: &["import"],
        words: "FILE [OPTIONS]",
        what: "write the keys and values of a file",
        more: "`import --help` lists the options.",
        examples: &["import fruits.ndjson --jobs 64", "import fruits.tsv --resume"],
    },
    Entry {
        names: &["export"],
        words: "[FILE] [OPTIONS]",
        what: "write all keys and values to a file",
        more: "`export --help` lists the options.",
        examples: &["export fruits.ndjson --sort", "export - --format tsv --prefix session:"],
    },
    Entry {
        names: &["bench"],
        words: "[OPTIONS]",
        what: "measure puts, gets and mixes of them",
        more: "`bench --help` lists the options.",
        examples: &["bench --clients 64 --seconds 5", "bench --workload b --rate 5000 --json"],
    },
    Entry {
        names: &["hot"],
        words: "[--json]",
        what: "print the busiest keys and partitions",
        more: "Over about the last ten seconds, estimated by the servers from a part of the requests.",
        examples: &["hot", "hot --json"],
    },
    Entry {
        names: &["stat"],
        words: "[TIME] [--count N] [--json]",
        what: "print a line a second about the cluster until Ctrl-C",
        more: "Rates and milliseconds of all servers together; the lag is of the partition that lacks most.",
        examples: &["stat", "stat 5s --count 12"],
    },
    Entry {
        names: &["latency"],
        words: "[TIME] [--json]",
        what: "measure how long a get takes at each server",
        more: "From here, with the network between: a hundred gets a second for 5 s, of a key that need not be there.",
        examples: &["latency", "latency 30s --json"],
    },
    Entry {
        names: &["big"],
        words: "[PREFIX] [--limit N] [--json]",
        what: "find the largest values",
        more: "Reads all keys with the prefix, with their values: as much work as an export.",
        examples: &["big", "big session: --limit 100"],
    },
    Entry {
        names: &["verify"],
        words: "[--json]",
        what: "compare all copies of all partitions",
        more: "Writes may go on: the copies are compared at one entry of each partition's log. The exit code is 3 when \
               copies differ, 4 when one cannot be asked.",
        examples: &["verify", "verify --json"],
    },
    Entry {
        names: &["admin"],
        words: "COMMAND [OPTIONS]",
        what: "add, drain and replace servers, pause copying, recover partitions",
        more: "`admin --help` lists the commands. They ask the ECS, which any server names.",
        examples: &["admin plan drain localhost:5003", "admin apply --epoch 41 drain localhost:5003"],
    },
    Entry {
        names: &[":timing"],
        words: "[on|off]",
        what: "print how long each command takes, or do not",
        more: "",
        examples: &[":timing", ":timing off"],
    },
    Entry {
        names: &[":trace"],
        words: "[on|off]",
        what: "follow each request through the servers' logs, or do not",
        more: "The id of each request is printed on standard error. Every server that has to do with it logs what it \
               does, and when, with this id as the field `request`. The same as `kvclient --trace`.",
        examples: &[":trace on", ":trace off"],
    },
    Entry {
        names: &[":output"],
        words: "[table|json|ndjson|raw]",
        what: "set the form of the answers",
        more: "The same as `kvclient --output FORMAT`.",
        examples: &[":output json", ":output table"],
    },
    Entry {
        names: &[":watch"],
        words: "[TIME] [COMMAND...]",
        what: "run a command again and again until Ctrl-C",
        more: "Every 2 s if no time is given; the last command if none is given.",
        examples: &[":watch 5s status", ":watch 1s get fruit"],
    },
    Entry {
        names: &["completions"],
        words: "SHELL",
        what: "print a script that lets bash, zsh or fish complete kvclient",
        more: "",
        examples: &["completions bash", "completions fish"],
    },
    Entry {
        names: &["man"],
        words: "[DIR]",
        what: "print the manual page, or write a page for each command",
        more: "",
        examples: &["man", "man ./man1"],
    },
    Entry {
        names: &["help"],
        words: "[COMMAND]",
        what: "list the commands, or explain one",
        more: "",
        examples: &["help put", "help"],
    },
    Entry { names: &["quit", "exit"], words: "", what: "leave the shell", more: "", examples: &[] },
];

impl Entry {
    /// Whether it takes arguments like a process: import, export, bench, verify, admin, completions, man.
    pub(crate) fn is_program(&self) -> bool {
        matches!(self.names[0], "import" | "export" | "bench" | "verify" | "admin" | "completions" | "man")
    }

    /// Whether it is of use only in a shell: it changes the shell's behaviour, or ends it.
    pub(crate) fn is_of_shell(&self) -> bool {
        matches!(self.names[0], "connect" | "disconnect" | "logLevel" | "unwatch" | "help" | "quit")
            || self.names[0].starts_with(':')
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names
    }
}

/// Names that other stores have for some of these.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("set", "put"),
    ("insert", "put"),
    ("remove", "delete"),
    ("rm", "delete"),
    ("unset", "delete"),
    ("keys", "scan"),
    ("list", "scan"),
    ("ls", "scan"),
    ("info", "status"),
    ("members", "status"),
];

/// Commands of Redis that people try next. The servers have them, the shell does not.
const REDIS_ONLY: &[&str] = &[
    "decr", "decrby", "exists", "getdel", "getex", "getset", "incr", "incrby", "mget", "mset", "multi",
    "persist", "setex", "setnx", "strlen", "ttl",
];

/// The command of a name, in any case; the error suggests the closest one.
pub(crate) fn find(name: &str) -> Result<&'static Entry, Failure> {
    let called = |entry: &&Entry| entry.names.iter().any(|known| known.eq_ignore_ascii_case(name));
    if let Some(entry) = TABLE.iter().find(called) {
        return Ok(entry);
    }
    let names = TABLE.iter().flat_map(|entry| entry.names);
    let elsewhere = || OTHER_WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(name));
    let hint = if REDIS_ONLY.iter().any(|word| word.eq_ignore_ascii_case(name)) {
        "the Redis protocol has it: `redis-cli -p PORT` at any server".to_owned()
    } else if let Some(known) = elsewhere().map(|(_, ours)| *ours).or_else(|| near(name, names.copied())) {
        format!("did you mean `{known}`?")
    } else {
        "`help` lists the commands".to_owned()
    };
    Err(Failure::usage(format!("unknown command `{name}`; {hint}")))
}

/// The closest name, if one is near: in any case, with few letters to change, add, remove or swap.
pub(crate) fn near<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    let distance = |name: &str| strsim::osa_distance(&typed, &name.to_lowercase());
    let (distance, name) = names.map(|name| (distance(name), name)).min()?;
    (distance <= 1 + typed.trim_start_matches('-').chars().count() / 4).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_command_is_guessed() {
        let guess = |name: &str| find(name).unwrap_err().message;
        assert!(guess("gte").contains("did you mean `get`?"));
        assert!(guess("delte").contains("`delete`"));
        assert!(guess("keyrang").contains("`keyrange`"));
        assert!(guess("SET").contains("did you mean `put`?"));
        assert!(guess("incr").contains("redis-cli"));
        for (word, ours) in OTHER_WORDS {
            assert!(find(word).is_err() && find(ours).is_ok(), "{word}: {ours}");
        }
        assert!(REDIS_ONLY.iter().all(|word| find(word).is_err()));
        assert!(guess("frobnicate").contains("`help` lists"));
        assert_eq!(find("LOGLEVEL").unwrap().names, ["logLevel"]);
    }
}
