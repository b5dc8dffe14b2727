//! What may follow the name of a command: for hints, completion, and errors that name the wrong word.
//!
//! A command of the shell has a line such as `KEY VALUE [--if-absent | --if-present] [--ttl TIME]`: words in upper case
//! stand for something, others for themselves; what is in brackets may be left out; ` | ` outside of them separates two
//! ways to call the command. A command of the process has arguments that clap knows. This module decides nothing about
//! what a line means: it walks along it, as far as it goes.

use clap::{Arg, ArgAction, Command as Program};

use crate::frame::failure::Failure;
use crate::parse::line::{Line, Word};
use crate::parse::table::{Entry, near};

/// Returns the arguments of the process.
pub(crate) type Programs = fn() -> Program;

/// Values that take the rest of the line when they are the last.
const REST: &[&str] = &["VALUE", "NEW", "COMMAND"];

/// A way to call a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    units: Vec<Unit>,
    /// It has so many options that a hint names them together.
    many_options: bool,
}

/// What one or more words stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unit {
    /// The text for a hint.
    shown: String,
    kind: Kind,
    required: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A word that stands for something, such as KEY.
    Value { slot: Slot, several: bool },
    /// One of these words.
    Choice(Vec<String>),
    /// One of these options.
    Options(Vec<Opt>),
}

/// An option.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Opt {
    /// The name with its dashes.
    name: String,
    value: Option<Slot>,
}

/// A place for a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// As help names it: `KEY`, `TIME`.
    pub(crate) name: String,
    /// The words that it may be, if they are known.
    pub(crate) choices: Vec<String>,
}

/// The shape of an argument, for pages and scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Value,
    Choice(Vec<String>),
    Flag,
    /// With a value of this name.
    Option(String),
}

/// A walk of a form along some words.
#[derive(Debug, Default)]
struct Walk<'a> {
    /// The units that may still come.
    left: Vec<&'a Unit>,
    /// The option before the end that waits for its value.
    pending: Option<&'a Slot>,
    /// The first word that has no place.
    misfit: Option<usize>,
    /// Everything from here on belongs to a value.
    rest: bool,
}

impl Form {
    /// The ways to call a command of the shell.
    pub(crate) fn of_shell(entry: &Entry) -> Vec<Self> {
        alternatives(entry.words).map(Self::parse).collect()
    }

    /// The ways to call a command; `words` are behind its name and choose among the commands of `admin`.
    fn of(entry: &Entry, words: &[Word], programs: Programs) -> (Vec<Self>, usize) {
        if !entry.is_program() {
            return (Self::of_shell(entry), 0);
        }
        let mut program = programs();
        let Some(mut found) = program.find_subcommand_mut(entry.names[0]) else { return (Vec::new(), 0) };
        let mut options = options(found);
        let mut depth = 0;
        while let Some(word) = words.get(depth)
            && found.find_subcommand(word.text()).is_some()
        {
            found = found.find_subcommand_mut(word.text()).expect("it was just found");
            options.extend(self::options(found));
            depth += 1;
        }
        options.sort_by_key(|unit| !unit.required);
        (vec![Self::of_program(found, options)], depth)
    }

    fn parse(text: &str) -> Self {
        let mut units = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let end = if rest.starts_with('[') {
                rest.find(']').map_or(rest.len(), |at| at + 1)
            } else {
                let end = rest.find(' ').unwrap_or(rest.len());
                // An option outside of brackets is followed by its value.
                let value = rest.starts_with("--").then(|| rest[end..].trim_start().find(' ')).flatten();
                value.map_or(end, |len| end + 1 + len)
            };
            units.push(Unit::parse(&rest[..end]));
            rest = rest[end..].trim_start();
        }
        Self { units, many_options: false }
    }

    fn of_program(program: &Program, options: Vec<Unit>) -> Self {
        let mut units: Vec<Unit> = program.get_positionals().map(positional).collect();
        let names: Vec<String> = program.get_subcommands().map(|one| one.get_name().to_owned()).collect();
        if !names.is_empty() {
            units.push(Unit { shown: names.join("|"), kind: Kind::Choice(names), required: true });
        }
        let many_options = options.len() > 3;
        units.extend(options);
        Self { units, many_options }
    }

    /// Its arguments by name, options without their dashes.
    pub(crate) fn shapes(&self) -> Vec<(String, Shape)> {
        let mut shapes = Vec::new();
        for unit in &self.units {
            match &unit.kind {
                Kind::Value { slot, .. } => shapes.push((slot.name.clone(), Shape::Value)),
                Kind::Choice(choices) => {
                    shapes.push((choices.join("|").to_uppercase(), Shape::Choice(choices.clone())));
                }
                Kind::Options(options) => shapes.extend(options.iter().map(|option| {
                    let shape =
                        option.value.as_ref().map_or(Shape::Flag, |slot| Shape::Option(slot.name.clone()));
                    (option.name.trim_start_matches('-').to_owned(), shape)
                })),
            }
        }
        shapes
    }

    fn walk(&self, words: &[Word]) -> Walk<'_> {
        let mut walk = Walk { left: self.units.iter().collect(), ..Walk::default() };
        for (index, word) in words.iter().enumerate() {
            if walk.pending.take().is_some() || walk.rest && word.is("--") {
                continue;
            }
            if !walk.take(word) {
                walk.misfit = Some(index);
                break;
            }
        }
        walk
    }
}

impl<'a> Walk<'a> {
    /// Takes a word; returns `false` if there is no place for it.
    fn take(&mut self, word: &Word) -> bool {
        let option = |unit: &&'a Unit| match &unit.kind {
            Kind::Options(options) => options.iter().find(|option| word.is(&option.name)),
            _ => None,
        };
        if let Some(at) = self.left.iter().position(|unit| option(unit).is_some()) {
            self.pending = option(&self.left.remove(at)).and_then(|option| option.value.as_ref());
            return true;
        }
        if self.rest {
            return true;
        }
        if word.plain && word.bytes.starts_with(b"--") && !word.is("--") && !self.takes_dashes() {
            return false;
        }
        let Some(at) = self.next_value() else { return false };
        match &self.left[at].kind {
            Kind::Choice(choices) if !choices.iter().any(|choice| word.is(choice)) => false,
            Kind::Value { several: true, .. } => true,
            Kind::Value { slot, .. } if REST.contains(&slot.name.as_str()) => {
                self.rest = true;
                self.left.remove(at);
                true
            }
            _ => {
                self.left.remove(at);
                true
            }
        }
    }

    /// The units that may still come, as help writes them.
    fn shown(&self, many_options: bool) -> String {
        let is_option = |unit: &&&Unit| matches!(unit.kind, Kind::Options(_)) && !unit.required;
        let mut shown: Vec<&str> = self.pending.iter().map(|slot| slot.name.as_str()).collect();
        let left = self.left.iter().filter(|unit| !many_options || !is_option(unit));
        shown.extend(left.map(|unit| unit.shown.as_str()));
        if many_options && self.left.iter().any(|unit| is_option(&unit)) {
            shown.push("[OPTIONS]");
        }
        shown.join(" ")
    }

    /// The place of the next word that is no option; `None` while an option must come first.
    fn next_value(&self) -> Option<usize> {
        let is_option = |unit: &&Unit| matches!(unit.kind, Kind::Options(_));
        let at = self.left.iter().position(|unit| !is_option(unit))?;
        let bound = self.left[..at].iter().any(|unit| is_option(unit) && unit.required);
        (!bound).then_some(at)
    }

    /// Whether the next value is the rest of the line, whatever it begins with.
    fn takes_dashes(&self) -> bool {
        let rest = |slot: &Slot| REST.contains(&slot.name.as_str());
        let next = self.next_value().map(|at| &self.left[at].kind);
        matches!(next, Some(Kind::Value { slot, .. }) if rest(slot))
    }
}

impl Unit {
    fn parse(text: &str) -> Self {
        let inner = text.strip_prefix('[').map(|inner| inner.trim_end_matches(']'));
        let (shown, required) = (text.to_owned(), inner.is_none());
        let inner = inner.unwrap_or(text);
        let kind = if inner.starts_with("--") {
            Kind::Options(inner.split(" | ").map(Opt::parse).collect())
        } else if inner.chars().any(char::is_lowercase) {
            Kind::Choice(inner.split('|').map(str::to_owned).collect())
        } else {
            let slot = Slot { name: inner.trim_end_matches('.').to_owned(), choices: Vec::new() };
            Kind::Value { slot, several: inner.ends_with("...") }
        };
        Self { shown, kind, required }
    }
}

impl Opt {
    fn parse(text: &str) -> Self {
        let (name, value) = text.split_once(' ').unwrap_or((text, ""));
        let slot = || Slot { name: value.to_owned(), choices: Vec::new() };
        Self { name: name.to_owned(), value: (!value.is_empty()).then(slot) }
    }
}

/// The ways to call a command.
fn alternatives(words: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let mut start = 0;
    let mut parts = Vec::new();
    for (at, byte) in words.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            b'|' if depth == 0 && words[..at].ends_with(' ') => {
                parts.push(&words[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&words[start..]);
    parts.into_iter()
}

fn slot(arg: &Arg) -> Slot {
    let names = arg.get_value_names().unwrap_or_default();
    let name = names.first().map_or_else(|| arg.get_id().as_str().to_ascii_uppercase(), ToString::to_string);
    let choices = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    Slot { name, choices }
}

fn positional(arg: &Arg) -> Unit {
    let (slot, required) = (slot(arg), arg.is_required_set());
    let several = matches!(arg.get_action(), ArgAction::Append);
    let dots = if several { "..." } else { "" };
    let shown = if required { format!("{}{dots}", slot.name) } else { format!("[{}{dots}]", slot.name) };
    Unit { shown, kind: Kind::Value { slot, several }, required }
}

fn options(program: &Program) -> Vec<Unit> {
    let unit = |arg: &Arg| {
        let name = format!("--{}", arg.get_long()?);
        let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        let value = takes.then(|| slot(arg));
        let text = value.as_ref().map_or_else(|| name.clone(), |slot| format!("{name} {}", slot.name));
        let shown = if arg.is_required_set() { text } else { format!("[{text}]") };
        Some(Unit { shown, kind: Kind::Options(vec![Opt { name, value }]), required: arg.is_required_set() })
    };
    program.get_arguments().filter_map(unit).collect()
}

/// The hint after these words: what is still missing. Empty when nothing may come, or a word has no place.
pub(crate) fn hint(entry: &Entry, words: &[Word], programs: Programs) -> String {
    let (forms, depth) = Form::of(entry, words, programs);
    let mut hints: Vec<String> = Vec::new();
    for form in &forms {
        let walk = form.walk(&words[depth..]);
        let shown = walk.shown(form.many_options);
        if walk.misfit.is_none() && !hints.contains(&shown) {
            hints.push(shown);
        }
    }
    hints.join(" | ")
}

/// The words that may come next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Next {
    /// Options that have not been given.
    pub(crate) options: Vec<String>,
    /// Words that stand for themselves.
    pub(crate) choices: Vec<String>,
    /// Values, by what help calls them.
    pub(crate) slots: Vec<String>,
}

/// What may come after these words.
pub(crate) fn next(entry: &Entry, words: &[Word], programs: Programs) -> Next {
    let mut next = Next::default();
    let (forms, depth) = Form::of(entry, words, programs);
    for form in &forms {
        let walk = form.walk(&words[depth..]);
        if walk.misfit.is_some() {
            continue;
        }
        if let Some(slot) = walk.pending {
            next.slots.push(slot.name.clone());
            next.choices.extend(slot.choices.iter().cloned());
            continue;
        }
        let mut first = true;
        for unit in &walk.left {
            match &unit.kind {
                Kind::Options(options) => {
                    next.options.extend(options.iter().map(|option| option.name.clone()))
                }
                Kind::Choice(choices) if first => next.choices.extend(choices.iter().cloned()),
                Kind::Value { slot, .. } if first => {
                    next.slots.push(slot.name.clone());
                    next.choices.extend(slot.choices.iter().cloned());
                }
                _ => {}
            }
            first &= matches!(unit.kind, Kind::Options(_));
        }
    }
    next
}

/// The failure for a line that is none of the ways to call its command: the word, and what to do.
pub(crate) fn misfit(entry: &Entry, line: &Line, words: &[Word]) -> Failure {
    let usage = format!("usage: {} {}", entry.names[0], entry.words);
    let usage = usage.trim_end();
    let forms = Form::of_shell(entry);
    let walks: Vec<Walk<'_>> = forms.iter().map(|form| form.walk(words)).collect();
    // The form that goes furthest along the words is taken for the one that was meant.
    let best = walks
        .iter()
        .rev()
        .max_by_key(|walk| (walk.misfit.unwrap_or(usize::MAX), std::cmp::Reverse(walk.left.len())));
    let end = line.words.last().map_or(0, |word| word.span.end);
    match best {
        Some(Walk { misfit: Some(index), left, .. }) => {
            let word = &words[*index];
            let what = match (unknown_option(word, left), word.text()) {
                (Some(advice), text) => format!("there is no option `{text}` here; {advice}"),
                (None, text) => format!("`{text}` is an unexpected argument"),
            };
            Failure::usage(format!("{what}; {usage}")).at(word.span.clone())
        }
        Some(Walk { pending: Some(slot), .. }) => {
            Failure::usage(format!("{} is missing; {usage}", slot.name)).at(end..end + 1)
        }
        Some(Walk { left, .. }) if left.iter().any(|unit| unit.required) => {
            let missing: Vec<&str> =
                left.iter().filter(|unit| unit.required).map(|unit| unit.shown.as_str()).collect();
            Failure::usage(format!("{} is missing; {usage}", missing.join(" "))).at(end + 1..end + 2)
        }
        _ => Failure::usage(usage),
    }
}

/// Advice, if a word looks like an option.
fn unknown_option(word: &Word, left: &[&Unit]) -> Option<String> {
    if !word.plain || !word.bytes.starts_with(b"-") {
        return None;
    }
    let names: Vec<&str> = option_names(left).collect();
    let near = near(&word.text(), names.iter().copied());
    Some(near.map_or_else(|| "quote it if it is a key".to_owned(), |name| format!("did you mean `{name}`?")))
}

fn option_names<'a>(left: &'a [&Unit]) -> impl Iterator<Item = &'a str> {
    options_of(left).map(|option| option.name.as_str())
}

fn options_of<'a>(left: &'a [&Unit]) -> impl Iterator<Item = &'a Opt> {
    left.iter().flat_map(|unit| match &unit.kind {
        Kind::Options(options) => options.as_slice(),
        _ => &[],
    })
}

/// The failure for an option at the end of a value that is nearly one of the command's, or lacks its value: taken for
/// text it would do harm.
pub(crate) fn mistyped_option(entry: &Entry, words: &[Word]) -> Option<Failure> {
    const MEANT: &str =
        "If it belongs to the value: `put KEY -- VALUE`, or quotes around the value in the shell";
    let last =
        words.last().filter(|word| word.plain && word.bytes.starts_with(b"--") && word.bytes.len() > 2)?;
    if words.len() < 2 || words.iter().any(|word| word.is("--")) {
        return None;
    }
    let form = alternatives(entry.words).map(Form::parse).next()?;
    let units: Vec<&Unit> = form.units.iter().collect();
    let wrong = |message: String| Some(Failure::usage(message).at(last.span.clone()));
    if let Some(slot) = options_of(&units).find(|one| last.is(&one.name)).and_then(|one| one.value.as_ref()) {
        return wrong(format!("{} is missing behind `{}`. {MEANT}", slot.name, last.text()));
    }
    if words.len() < 3 {
        return None;
    }
    let near = near(&last.text(), option_names(&units)).filter(|name| !last.is(name))?;
    wrong(format!("there is no option `{}`; did you mean `{near}`? {MEANT}", last.text()))
}

#[cfg(test)]
mod tests;
