//! `COMMAND`: describes the commands to clients.

use bytes::Bytes;

use super::encode::Writer;
use super::spec::{Answered, Local, Spec};
use super::words::unknown_subcommand;

const FLAGS: [(char, &str); 9] = [
    ('w', "write"),
    ('r', "readonly"),
    ('m', "denyoom"),
    ('a', "admin"),
    ('n', "noscript"),
    ('l', "loading"),
    ('b', "blocking"),
    ('s', "no_auth"),
    ('F', "fast"),
];

fn describe(spec: &Spec, writer: &mut Writer<'_>) {
    writer.array(10);
    writer.bulk(spec.lower().as_bytes());
    writer.int(spec.arity.into());
    let flags = FLAGS.iter().filter(|(letter, _)| spec.flags.contains(*letter));
    writer.set(flags.clone().count());
    flags.for_each(|(_, name)| writer.simple(name));
    let (first, last, step) = spec.keys;
    [first, last, step].into_iter().for_each(|number| writer.int(number.into()));
    writer.set(1);
    writer.simple(&format!("@{}", spec.group));
    // Hints, key specifications, subcommands.
    writer.set(0);
    writer.set(0);
    writer.set(0);
}

/// `COMMAND` and its subcommands.
pub(super) fn command(local: &mut Local<'_>, words: &[Bytes]) -> Answered {
    let commands = local.commands;
    let writer = &mut local.writer();
    let Some(sub) = words.get(1) else {
        writer.array(commands.len());
        commands.iter().for_each(|spec| describe(spec, writer));
        return Ok(());
    };
    let names = &words[2..];
    match sub.to_ascii_uppercase().as_slice() {
        b"COUNT" if names.is_empty() => writer.count(commands.len()),
        b"LIST" => {
            writer.array(commands.len());
            commands.iter().for_each(|spec| writer.bulk(spec.lower().as_bytes()));
        }
        b"INFO" if names.is_empty() => {
            writer.array(commands.len());
            commands.iter().for_each(|spec| describe(spec, writer));
        }
        b"INFO" => {
            writer.array(names.len());
            for name in names {
                match Spec::find(commands, name) {
                    Some(spec) => describe(spec, writer),
                    None => writer.null_array(),
                }
            }
        }
        b"DOCS" => {
            let wanted = |spec: &&Spec| {
                names.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case(spec.name.as_bytes()))
            };
            writer.map(commands.iter().filter(wanted).count());
            for spec in commands.iter().filter(wanted) {
                writer.bulk(spec.lower().as_bytes());
                writer.map(3);
                for (name, text) in [("summary", spec.summary), ("since", spec.since), ("group", spec.group)]
                {
                    writer.bulk(name.as_bytes());
                    writer.bulk(text.as_bytes());
                }
            }
        }
        b"GETKEYS" => {
            let spec = names
                .first()
                .and_then(|name| Spec::find(commands, name))
                .ok_or("ERR Invalid command specified")?;
            if !spec.takes(names.len()) {
                return Err("ERR Invalid number of arguments specified for command".into());
            }
            let positions = spec.key_positions(names.len());
            if positions.is_empty() {
                return Err("ERR The command has no key arguments".into());
            }
            writer.array(positions.len());
            positions.into_iter().for_each(|position| writer.bulk(&names[position]));
        }
        _ => return Err(unknown_subcommand(sub, "COMMAND")),
    }
    Ok(())
}
