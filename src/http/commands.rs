//! ZooKeeper's AdminServer: the page with a link to each command, and JSON as the original prints it. What
//! a command answers is the coordinator's business.
//!
//! Pure.

use serde::Serialize;
use serde_json::Value;

/// The page with a link to each command.
pub fn index(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("<a href=\"/commands/{name}\">{name}</a>\n<br/>\n"))
        .collect()
}

/// The arguments behind a path's question mark; the first of a name counts.
pub fn arguments(query: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if found.len() < ARGUMENTS_MAX && found.iter().all(|(known, _)| known != name) {
            found.push((name.to_owned(), value.to_owned()));
        }
    }
    found
}

/// More arguments than any command has.
const ARGUMENTS_MAX: usize = 16;

/// JSON as Jackson indents it: two spaces, and a space on both sides of the colon.
pub fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Jackson::default());
    match value.serialize(&mut serializer) {
        Ok(()) => String::from_utf8(out).unwrap_or_default(),
        Err(_) => value.to_string(),
    }
}

/// Jackson's default: an array stays on its line, what is in it is indented as if the array was not there.
#[derive(Default)]
struct Jackson {
    depth: usize,
    is_empty: bool,
}

impl Jackson {
    fn line<W: ?Sized + std::io::Write>(&self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(b"  "))
    }
}

impl serde_json::ser::Formatter for Jackson {
    fn begin_array<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b"[ ")?;
        self.is_empty = true;
        Ok(())
    }
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if !first {
            writer.write_all(b", ")?;
        }
        Ok(())
    }
    fn end_array_value<W: ?Sized + std::io::Write>(&mut self, _: &mut W) -> std::io::Result<()> {
        self.is_empty = false;
        Ok(())
    }
    fn end_array<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        if !self.is_empty {
            writer.write_all(b" ")?;
        }
        writer.write_all(b"]")
    }
    fn begin_object<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.depth += 1;
        self.is_empty = true;
        writer.write_all(b"{")
    }
    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        self.line(writer)
    }
    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b" : ")
    }
    fn end_object_value<W: ?Sized + std::io::Write>(&mut self, _: &mut W) -> std::io::Result<()> {
        self.is_empty = false;
        Ok(())
    }
    fn end_object<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.depth -= 1;
        if self.is_empty {
            writer.write_all(b" }")
        } else {
            self.line(writer)?;
            writer.write_all(b"}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_looks_like_jacksons() {
        let value = serde_json::json!({ "a": 0.5, "b": ["x"], "command": "ruok", "error": null });
        assert_eq!(
            pretty(&value),
            "{\n  \"a\" : 0.5,\n  \"b\" : [ \"x\" ],\n  \"command\" : \"ruok\",\n  \"error\" : null\n}"
        );
        let empty = serde_json::json!({ "a": {}, "b": [], "c": [{ "d": 1 }] });
        assert_eq!(
            pretty(&empty),
            "{\n  \"a\" : { },\n  \"b\" : [ ],\n  \"c\" : [ {\n    \"d\" : 1\n  } ]\n}"
        );
    }

    #[test]
    fn arguments_are_taken_apart() {
        assert_eq!(arguments(""), []);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            arguments("traceMask=5&x&traceMask=6"),
            [pair("traceMask", "5"), pair("x", "")]
        );
    }

    #[test]
    fn the_page_has_a_link_to_each_command() {
        assert_eq!(
            index(&["ruok"]),
            "<a href=\"/commands/ruok\">ruok</a>\n<br/>\n"
        );
    }
}
