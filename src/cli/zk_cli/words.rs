//! Words of a command line: how a line is split, what options commons-cli sees in them, which paths
//! are well formed. Pure, and in the words of the original where it refuses.

use std::collections::BTreeMap;

use super::Refusal;

/// Splits a line as the original does: quotes count only at a word's beginning.
pub(super) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    // The original's pattern takes the last of nothing but spaces for a word.
    if rest.is_empty() {
        words.extend(line.chars().last().map(String::from));
    }
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        let (word, left) = if matches!(first, '"' | '\'') {
            match after.split_once(first) {
                Some(quoted) => quoted,
                // A quote that is never closed is passed over.
                None => {
                    rest = after.trim_start();
                    continue;
                }
            }
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            rest.split_at(end)
        };
        words.push(word.to_owned());
        rest = left.trim_start();
    }
    words
}

/// A command's options and the rest of its words, the command itself first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    options: BTreeMap<String, Option<String>>,
    pub(super) words: Vec<String>,
}

impl Parsed {
    /// Was the option given?
    pub(super) fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// Its argument.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.options.get(name)?.as_deref()
    }

    /// The word at `index`; 0 is the command.
    pub(super) fn word(&self, index: usize) -> Option<&str> {
        self.words.get(index).map(String::as_str)
    }

    /// The number that an option gives, -1 without it.
    pub(super) fn number<N: std::str::FromStr + From<i8>>(&self, name: &str) -> Result<N, Refusal> {
        match self.value(name) {
            None => Ok(N::from(-1)),
            Some(text) => number(text),
        }
    }
}

/// A number, or what Java says of a text that is none.
pub(super) fn number<N: std::str::FromStr>(text: &str) -> Result<N, Refusal> {
    text.parse().map_err(|_| {
        Refusal::new(format!(
            "Exception in thread \"main\" java.lang.NumberFormatException: For input string: \"{text}\""
        ))
    })
}

/// Reads options as commons-cli's PosixParser. `known` lists them by spaces; `v:` has an argument.
pub(super) fn parse(known: &str, words: &[String]) -> Result<Parsed, Refusal> {
    let takes = |name: &str| {
        known
            .split_whitespace()
            .find(|option| option.strip_suffix(':').unwrap_or(option) == name)
            .map(|option| option.ends_with(':'))
    };
    let mut parsed = Parsed::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let dashed = word.strip_prefix('-').unwrap_or("");
        if dashed.is_empty() {
            parsed.words.push(word.clone());
            continue;
        }
        if dashed == "-" {
            parsed.words.extend(rest.by_ref().cloned());
            break;
        }
        let name = dashed.strip_prefix('-').unwrap_or(dashed);
        let (name, attached) = match name.split_once('=') {
            Some((name, value)) if takes(name) == Some(true) => (name, Some(value.to_owned())),
            _ => (name, None),
        };
        let unknown = || {
            Refusal::new(format!(
                "org.apache.commons.cli.UnrecognizedOptionException: Unrecognized option: {word}"
            ))
        };
        let names: Vec<(String, Option<String>)> = if takes(name).is_some() {
            vec![(name.to_owned(), attached)]
        } else {
            burst(name, takes).ok_or_else(unknown)?
        };
        for (name, mut value) in names {
            if takes(&name) == Some(true) && value.is_none() {
                let following = rest.as_slice().first();
                value = following
                    .filter(|next| next.strip_prefix('-').is_none_or(|n| takes(n).is_none()))
                    .cloned();
                if value.is_none() {
                    return Err(Refusal::new(format!(
                        "org.apache.commons.cli.MissingArgumentException: Missing argument for option: {name}"
                    )));
                }
                rest.next();
            }
            parsed.options.insert(name, value);
        }
    }
    Ok(parsed)
}

/// `-sw` is `-s -w`, and `-v3` is `-v 3`.
fn burst(
    letters: &str,
    takes: impl Fn(&str) -> Option<bool>,
) -> Option<Vec<(String, Option<String>)>> {
    let mut found = Vec::new();
    for (at, letter) in letters.char_indices() {
        let name = letter.to_string();
        let rest = &letters[at + letter.len_utf8()..];
        if takes(&name)? && !rest.is_empty() {
            found.push((name, Some(rest.to_owned())));
            return Some(found);
        }
        found.push((name, None));
    }
    Some(found)
}

/// `PathUtils.validatePath`, with its sentences.
pub(super) fn validate_path(path: &str) -> Result<(), Refusal> {
    if path.is_empty() {
        return Err(Refusal::new("Path length must be > 0"));
    }
    if !path.starts_with('/') {
        return Err(Refusal::new("Path must start with / character"));
    }
    if path == "/" {
        return Ok(());
    }
    if path.ends_with('/') {
        return Err(Refusal::new("Path must not end with / character"));
    }
    let units: Vec<u16> = path.encode_utf16().collect();
    let slash = u16::from(b'/');
    let mut step = 1;
    for at in 1..=units.len() {
        let unit = units.get(at).copied().unwrap_or(slash);
        let reason = if unit == slash {
            let name = &units[step..at];
            step = at + 1;
            let dot = u16::from(b'.');
            if name.is_empty() {
                Some(format!("empty node name specified @{at}"))
            } else if name == [dot] || name == [dot, dot] {
                Some(format!("relative paths not allowed @{}", at - 1))
            } else {
                None
            }
        } else {
            match unit {
                0 => Some(format!("null character not allowed @{at}")),
                0x1..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff => {
                    Some(format!("invalid character @{at}"))
                }
                _ => None,
            }
        };
        if let Some(reason) = reason {
            return Err(Refusal::new(format!(
                "Invalid path string \"{path}\" caused by {reason}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_split_at_spaces_and_quotes() {
        for (line, expected) in [
            ("ls /", vec!["ls", "/"]),
            ("  ls   /  ", vec!["ls", "/"]),
            (
                "create \"/a b\" 'x \"y\" z'",
                vec!["create", "/a b", "x \"y\" z"],
            ),
            ("create /e \"\"", vec!["create", "/e", ""]),
            ("set /a b\"c d\"", vec!["set", "/a", "b\"c", "d\""]),
            ("get \"/a", vec!["get", "/a"]),
            ("   ", vec![" "]),
            ("", vec![]),
        ] {
            assert_eq!(split(line), expected, "{line:?}");
        }
    }

    #[test]
    fn options_stand_anywhere_alone_or_together() {
        let parsed = parse("s w v:", &words("set -sw /a -v -1 x")).expect("well formed");
        assert!(parsed.has("s") && parsed.has("w"));
        assert_eq!(parsed.value("v"), Some("-1"));
        assert_eq!(parsed.words, ["set", "/a", "x"]);
        let parsed = parse("s v:", &words("set -v3 /a -- -x")).expect("well formed");
        assert_eq!(parsed.number::<i32>("v").ok(), Some(3));
        assert_eq!(parsed.words, ["set", "/a", "-x"]);
        let parsed = parse("add: v:", &words("reconfig -add 2=h:1:2;3")).expect("well formed");
        assert_eq!(parsed.value("add"), Some("2=h:1:2;3"));
    }

    /// Sentences of the genuine tool.
    #[test]
    fn bad_options_are_named() {
        for (line, sentence) in [
            (
                "get -x /a",
                "org.apache.commons.cli.UnrecognizedOptionException: Unrecognized option: -x",
            ),
            (
                "set -v",
                "org.apache.commons.cli.MissingArgumentException: Missing argument for option: v",
            ),
            (
                "set -v -s /a",
                "org.apache.commons.cli.MissingArgumentException: Missing argument for option: v",
            ),
        ] {
            let refusal = parse("s v:", &words(line)).expect_err(line);
            assert_eq!(refusal, Refusal::new(sentence));
        }
    }

    /// Sentences of the genuine tool.
    #[test]
    fn bad_paths_are_explained() {
        for (path, sentence) in [
            ("", "Path length must be > 0"),
            ("a", "Path must start with / character"),
            ("/a/", "Path must not end with / character"),
            (
                "//x",
                "Invalid path string \"//x\" caused by empty node name specified @1",
            ),
            (
                "/d//x",
                "Invalid path string \"/d//x\" caused by empty node name specified @3",
            ),
            (
                "/d/./x",
                "Invalid path string \"/d/./x\" caused by relative paths not allowed @3",
            ),
            (
                "/d/../x",
                "Invalid path string \"/d/../x\" caused by relative paths not allowed @4",
            ),
        ] {
            assert_eq!(validate_path(path), Err(Refusal::new(sentence)), "{path:?}");
        }
        for path in ["/", "/a", "/a b/c.d", "/..."] {
            assert_eq!(validate_path(path), Ok(()));
        }
    }
}
