//! Arguments as the Java tools take them: joptsimple's habits, and argparse4j's where asked for.
//!
//! A tool declares a table of options; everything it would have to say about them (help, what is
//! missing, what does not go together) is worded here as the originals word it.

use std::collections::BTreeMap;

use super::print::{Throwable, err, out};
use super::{VERSION, java_help};
use crate::config::raw::nearest;

/// One option of a tool.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its name without dashes.
    pub name: &'static str,
    /// What its argument is called; `None` for a flag.
    pub argument: Option<&'static str>,
    /// For the help text.
    pub help: &'static str,
    /// Known to the original but refused here.
    pub unsupported: bool,
    /// May it take many arguments in a row (argparse4j's `nargs("+")`)?
    pub many: bool,
    /// May its argument be left out?
    pub optional: bool,
    /// Why it changes nothing here; told when it is given.
    pub idle: Option<&'static str>,
    /// Not an option of 2.8.0.
    pub beyond: bool,
}

/// A flag.
pub const fn flag(name: &'static str, help: &'static str) -> Spec {
    Spec {
        name,
        argument: None,
        help,
        unsupported: false,
        many: false,
        optional: false,
        idle: None,
        beyond: false,
    }
}

/// An option with an argument.
pub const fn option(name: &'static str, argument: &'static str, help: &'static str) -> Spec {
    Spec {
        name,
        argument: Some(argument),
        help,
        unsupported: false,
        many: false,
        optional: false,
        idle: None,
        beyond: false,
    }
}

impl Spec {
    /// Takes as many arguments as follow.
    pub const fn many(mut self) -> Spec {
        self.many = true;
        self
    }

    /// May stand without its argument.
    pub const fn optional(mut self) -> Spec {
        self.optional = true;
        self
    }

    /// Is taken, and changes nothing for this reason.
    pub const fn idle(mut self, why: &'static str) -> Spec {
        self.idle = Some(why);
        self
    }

    /// Came with a later version, or is our own.
    pub const fn beyond(mut self) -> Spec {
        self.beyond = true;
        self
    }

    /// Is refused by name.
    pub const fn unsupported(mut self) -> Spec {
        self.unsupported = true;
        self
    }
}

/// Whose habits are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// joptsimple without abbreviations, as Kafka 2.8 creates it: `--x v`, `--x=v`, `-x`.
    Joptsimple,
    /// argparse4j: unambiguous prefixes and options with many arguments as well.
    Argparse,
}

/// Why arguments were not understood. Its text is the original's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgError {
    /// No such option.
    #[error("{name} is not a recognized option")]
    Unrecognized {
        /// As it was typed.
        name: String,
        /// What may have been meant.
        meant: Option<&'static str>,
    },
    /// An argument is missing at the end.
    #[error("Option {0} requires an argument")]
    MissingArgument(&'static str),
    /// An argument has the wrong type.
    #[error("Cannot parse argument '{value}' of option {name}")]
    Unparsable {
        /// The option.
        name: String,
        /// What was given.
        value: String,
        /// What the type's own parser says of it.
        cause: Box<Throwable>,
    },
    /// One value was wanted and several were given.
    #[error("Found multiple arguments for option {0}, but you asked for only one")]
    Multiple(String),
    /// A prefix of several options.
    #[error("ambiguous option: {typed} could match {candidates}")]
    Ambiguous {
        /// As it was typed.
        typed: String,
        /// The options.
        candidates: String,
    },
    /// Known, but not here.
    #[error("option --{0} is not supported by this tool yet")]
    Unsupported(&'static str),
}

impl ArgError {
    /// The exception of joptsimple's; `None` for what it does not know.
    pub fn class(&self) -> Option<&'static str> {
        Some(match self {
            ArgError::Unrecognized { .. } => "joptsimple.UnrecognizedOptionException",
            ArgError::MissingArgument(_) => "joptsimple.OptionMissingRequiredArgumentException",
            ArgError::Unparsable { .. } => "joptsimple.OptionArgumentConversionException",
            ArgError::Multiple(_) => "joptsimple.MultipleArgumentsForOptionException",
            ArgError::Ambiguous { .. } | ArgError::Unsupported(_) => return None,
        })
    }

    /// The exception with what brought it about; `Err` is a sentence of our own.
    pub fn throwable(&self) -> Result<Throwable, String> {
        let class = self.class().ok_or_else(|| self.to_string())?;
        let throwable = Throwable::new(class, &self.to_string());
        Ok(match self {
            ArgError::Unparsable { cause, .. } => throwable.caused_by((**cause).clone()),
            _ => throwable,
        })
    }

    /// Prints what an uncaught joptsimple exception prints, and a hint. Gives the exit code.
    pub fn die(&self) -> u8 {
        match self.throwable() {
            Ok(throwable) => err!("Exception in thread \"main\" {throwable}"),
            Err(sentence) => err!("{sentence}"),
        }
        self.hint();
        1
    }

    /// What may have been meant.
    fn hint(&self) {
        if let ArgError::Unrecognized {
            meant: Some(meant), ..
        } = self
        {
            err!("Did you mean --{meant}?");
        }
    }
}

/// Parsed arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    given: BTreeMap<&'static str, Vec<String>>,
    /// Arguments that belong to no option.
    pub rest: Vec<String>,
}

impl Options {
    /// Was the option given?
    pub fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Its values, in order.
    pub fn values(&self, name: &str) -> &[String] {
        self.given.get(name).map_or(&[], Vec::as_slice)
    }

    /// Its only value.
    pub fn value(&self, name: &str) -> Result<Option<&str>, ArgError> {
        match self.values(name) {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err(ArgError::Multiple(name.to_owned())),
        }
    }

    /// Its last value, where the habit is argparse4j's.
    pub fn last(&self, name: &str) -> Option<&str> {
        self.values(name).last().map(String::as_str)
    }

    /// Its last value as a number; every value has to be one.
    pub fn last_parsed<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ArgError> {
        let mut last = None;
        for value in self.values(name) {
            last = Some(parse_value(name, value)?);
        }
        Ok(last)
    }

    /// Its only value as a number or another type.
    pub fn parsed<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ArgError> {
        self.value(name)?
            .map(|value| parse_value(name, value))
            .transpose()
    }
}

fn parse_value<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, ArgError> {
    value.parse().map_err(|_| ArgError::Unparsable {
        name: name.to_owned(),
        value: value.to_owned(),
        cause: Box::new(no_number(value)),
    })
}

/// What joptsimple's reflection gives for a word that should have been a number.
fn no_number(value: &str) -> Throwable {
    let cause = Throwable::new(
        "java.lang.NumberFormatException",
        &format!("For input string: \"{value}\""),
    );
    Throwable::new("joptsimple.internal.ReflectionException", &cause.text).caused_by(cause)
}

/// What parsing came to.
pub type Parsed = Result<Options, ArgError>;

/// Reads `arguments` by the table. `help` and `version` are understood without being in it.
pub fn parse(specs: &[Spec], arguments: &[String], habit: Habit) -> Parsed {
    let mut options = Options::default();
    let mut rest = arguments.iter().peekable();
    while let Some(word) = rest.next() {
        if word == "--" {
            options.rest.extend(rest.by_ref().cloned());
            break;
        }
        let Some(typed) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            options.rest.push(word.clone());
            continue;
        };
        if typed.is_empty() {
            options.rest.push(word.clone());
            continue;
        }
        let (name, inline) = match typed.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (typed, None),
        };
        let spec = lookup(specs, name, word, habit)?;
        if spec.unsupported {
            return Err(ArgError::Unsupported(spec.name));
        }
        let values = options.given.entry(spec.name).or_default();
        if spec.argument.is_none() {
            continue;
        }
        match inline {
            Some(value) => values.push(value),
            None if spec.optional => {
                values.extend(rest.next_if(|word| !word.starts_with('-')).cloned());
            }
            None => values.push(
                rest.next()
                    .ok_or(ArgError::MissingArgument(spec.name))?
                    .clone(),
            ),
        }
        if spec.many {
            values.extend(more_values(&mut rest));
        }
    }
    Ok(options)
}

/// The words up to the next option.
fn more_values<'a>(
    words: &mut std::iter::Peekable<impl Iterator<Item = &'a String>>,
) -> Vec<String> {
    let mut values = Vec::new();
    while let Some(word) = words.next_if(|word| !word.starts_with('-')) {
        values.push(word.clone());
    }
    values
}

const BUILT_IN: [Spec; 2] = [
    flag("help", "Print usage information."),
    flag("version", "Display Kafka version."),
];

fn lookup<'a>(
    specs: &'a [Spec],
    name: &str,
    word: &str,
    habit: Habit,
) -> Result<&'a Spec, ArgError> {
    let all = || specs.iter().chain(BUILT_IN.iter());
    if let Some(spec) = all().find(|spec| spec.name == name) {
        return Ok(spec);
    }
    if habit == Habit::Argparse {
        if name == "h" {
            return Ok(&BUILT_IN[0]);
        }
        let near: Vec<&Spec> = all().filter(|spec| spec.name.starts_with(name)).collect();
        match near.as_slice() {
            [spec] => return Ok(spec),
            [] => {}
            many => {
                let mut candidates: Vec<String> =
                    many.iter().map(|spec| format!("--{}", spec.name)).collect();
                candidates.sort();
                return Err(ArgError::Ambiguous {
                    typed: word.to_owned(),
                    candidates: candidates.join(", "),
                });
            }
        }
    }
    let meant = nearest(name, all().map(|spec| spec.name))
        .and_then(|near| all().find(|spec| spec.name == near))
        .map(|spec| spec.name);
    // joptsimple reads an unknown "-abc" as the flags a, b and c, and complains of the first.
    let typed = match word.strip_prefix("--") {
        _ if habit == Habit::Argparse => word.to_owned(),
        Some(_) => name.to_owned(),
        None => name.chars().take(1).collect(),
    };
    Err(ArgError::Unrecognized { name: typed, meant })
}

/// A tool's table together with the sentence above its help.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// The options.
    pub specs: &'static [Spec],
    /// What the tool is for.
    pub about: &'static str,
    /// Are mistakes caught and told above the help (`tryParse`), or left to the runtime?
    pub tried: bool,
}

impl Usage {
    /// Parses, and answers `--help`, `--version` and no arguments at all. `Err` is the exit code.
    pub fn parse(&self, arguments: &[String]) -> Result<Options, u8> {
        let options = self.read(arguments)?;
        if arguments.is_empty() {
            return Err(self.die(self.about));
        }
        self.answer(&options)?;
        Ok(options)
    }

    /// Parses. `Err` is the exit code.
    pub fn read(&self, arguments: &[String]) -> Result<Options, u8> {
        match parse(self.specs, arguments, Habit::Joptsimple) {
            Ok(options) => Ok(options),
            Err(error) if self.tried && error.class().is_some() => {
                let code = self.die(&error.to_string());
                error.hint();
                Err(code)
            }
            Err(error) => Err(error.die()),
        }
    }

    /// Answers `--help` and `--version`; `Err` is the exit code. Tells what has no effect.
    pub fn answer(&self, options: &Options) -> Result<(), u8> {
        if options.has("help") {
            return Err(self.die(self.about));
        }
        if options.has("version") {
            out!("{VERSION}");
            return Err(0);
        }
        tell_idle(self.specs, options);
        Ok(())
    }

    /// `printUsageAndDie`: the message and the help on standard error, exit code 1.
    pub fn die(&self, message: &str) -> u8 {
        err!("{message}");
        err!("{}", self.help());
        1
    }

    /// `checkRequiredArgs`: dies of the first that is missing.
    pub fn require(&self, options: &Options, names: &[&str]) -> Result<(), u8> {
        match names.iter().find(|name| !options.has(name)) {
            Some(name) => Err(self.die(&format!("Missing required argument \"[{name}]\""))),
            None => Ok(()),
        }
    }

    /// `checkInvalidArgs`: dies if `used` was given together with one of `others`.
    pub fn exclude(&self, options: &Options, used: &str, others: &[&str]) -> Result<(), u8> {
        if !options.has(used) {
            return Ok(());
        }
        match others.iter().find(|other| options.has(other)) {
            Some(other) => Err(self.die(&format!(
                "Option \"[{used}]\" can't be used with option \"[{other}]\""
            ))),
            None => Ok(()),
        }
    }

    /// The genuine table, and below it what is not as there.
    pub fn help(&self) -> String {
        let (ours, genuine): (Vec<Spec>, Vec<Spec>) = self
            .specs
            .iter()
            .chain(BUILT_IN.iter())
            .partition(|spec| spec.beyond);
        let mut text = table(&genuine);
        let notes = not_as_there(self.specs);
        if !ours.is_empty() || !notes.is_empty() {
            text.push_str(NOT_AS_THERE);
            text.push_str(&notes);
            if !ours.is_empty() {
                text.push_str(&table(&ours));
            }
        }
        text.trim_end_matches('\n').to_owned()
    }
}

/// What stands above what no genuine tool has or does.
pub const NOT_AS_THERE: &str = "\n\nNot as in 2.8.0:\n";

/// Options of 2.8.0 that are refused here or change nothing, a line each.
pub fn not_as_there(specs: &[Spec]) -> String {
    let lines = specs
        .iter()
        .filter_map(|spec| match (spec.unsupported, spec.idle) {
            (true, _) => Some(format!("--{} is refused: not supported yet\n", spec.name)),
            (false, Some(why)) => Some(format!("--{} has no effect: {why}\n", spec.name)),
            (false, None) => None,
        });
    lines.collect()
}

fn table(specs: &[Spec]) -> String {
    let mut specs = specs.to_vec();
    specs.sort_by_key(|spec| spec.name);
    let rows = specs.iter().map(|spec| {
        let left = match spec.argument {
            Some(argument) if spec.optional => format!("--{} [{argument}]", spec.name),
            Some(argument) => format!("--{} <{argument}>", spec.name),
            None => format!("--{}", spec.name),
        };
        (left, spec.help.to_owned())
    });
    java_help::table(rows.collect())
}

/// Says which of the given options change nothing.
pub fn tell_idle(specs: &[Spec], options: &Options) {
    for spec in specs {
        if let Some(why) = spec.idle
            && options.has(spec.name)
        {
            err!("WARNING: option --{} has no effect: {why}", spec.name);
        }
    }
}

/// `key=value` arguments; a key alone has an empty value.
pub fn key_values(values: &[String]) -> Vec<(String, String)> {
    values
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (pair.clone(), String::new()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Spec] = &[
        flag("alter", ""),
        option("topic", "topic", ""),
        option("partitions", "n", ""),
        option("producer-props", "PROP", "").many(),
        option("payload-file", "FILE", ""),
        option("print-metrics", "x", "").unsupported(),
    ];

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_spellings_of_an_option() {
        for text in [
            "--alter --topic t --partitions 2",
            "-alter --topic=t -partitions 2",
            "--partitions=2 -alter -topic t",
        ] {
            let options = parse(TABLE, &words(text), Habit::Joptsimple).expect(text);
            assert!(options.has("alter"), "{text}");
            assert_eq!(options.value("topic"), Ok(Some("t")), "{text}");
            assert_eq!(options.parsed::<i32>("partitions"), Ok(Some(2)), "{text}");
        }
    }

    #[test]
    fn mistakes_are_worded_as_joptsimple_words_them() {
        let cases = [
            ("--partitons 2", "partitons is not a recognized option"),
            ("-xyz", "x is not a recognized option"),
            ("--topic", "Option topic requires an argument"),
            ("--topi x", "topi is not a recognized option"),
            (
                "--print-metrics x",
                "option --print-metrics is not supported by this tool yet",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(TABLE, &words(text), Habit::Joptsimple).expect_err(text);
            assert_eq!(error.to_string(), expected);
        }
        let twice = parse(TABLE, &words("--topic a --topic b"), Habit::Joptsimple).expect("parsed");
        assert_eq!(
            twice.value("topic").map_err(|error| error.to_string()),
            Err("Found multiple arguments for option topic, but you asked for only one".to_owned())
        );
        let word = parse(TABLE, &words("--partitions two"), Habit::Joptsimple).expect("parsed");
        assert_eq!(
            word.parsed::<i32>("partitions")
                .map_err(|error| error.to_string()),
            Err("Cannot parse argument 'two' of option partitions".to_owned())
        );
    }

    #[test]
    fn help_says_what_is_not_as_in_2_8() {
        const SPECS: &[Spec] = &[
            option("topic", "String: topic", "The topic."),
            flag("json", "As JSON.").beyond(),
            flag("force", "Force it.").unsupported(),
        ];
        let usage = Usage {
            specs: SPECS,
            about: "",
            tried: true,
        };
        let help = usage.help();
        let (genuine, ours) = help.split_once(NOT_AS_THERE).expect("both");
        assert!(
            genuine.contains("--force                  Force it."),
            "{genuine}"
        );
        assert!(genuine.contains("--topic <String: topic>"), "{genuine}");
        assert!(!genuine.contains("--json"), "{genuine}");
        assert!(
            ours.starts_with("--force is refused: not supported yet\nOption"),
            "{ours}"
        );
        assert!(ours.contains("--json  As JSON."), "{ours}");
    }

    #[test]
    fn a_slip_names_the_option_that_was_meant() {
        let error = parse(TABLE, &words("--partitons 2"), Habit::Joptsimple).expect_err("slip");
        assert!(matches!(
            error,
            ArgError::Unrecognized {
                meant: Some("partitions"),
                ..
            }
        ));
    }

    #[test]
    fn argparse_takes_prefixes_and_many_values() {
        let text = "--producer-props bootstrap.servers=a:1 acks=1 --topi t";
        let options = parse(TABLE, &words(text), Habit::Argparse).expect("parsed");
        assert_eq!(
            key_values(options.values("producer-props")),
            [
                ("bootstrap.servers".to_owned(), "a:1".to_owned()),
                ("acks".to_owned(), "1".to_owned())
            ]
        );
        assert_eq!(options.value("topic"), Ok(Some("t")));
        let error = parse(TABLE, &words("--p x"), Habit::Argparse).expect_err("ambiguous");
        assert!(matches!(error, ArgError::Ambiguous { .. }));
    }
}
