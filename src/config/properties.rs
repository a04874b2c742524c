//! The syntax of `java.util.Properties`: `server.properties` and `zoo.cfg` are written in it.
//!
//! Pure: text in, pairs with their line out. Every text is legal; what is no pair has an empty value.

/// One pair and the line it begins on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// From 1.
    pub line: usize,
    /// The key, unescaped.
    pub key: String,
    /// The value, unescaped, without the white space around it.
    pub value: String,
}

/// Reads all pairs, in order.
pub fn parse(text: &str) -> Vec<Property> {
    let mut properties = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while continues(&logical) {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start());
        }
        let (key, value) = split(&logical);
        properties.push(Property {
            line: index + 1,
            key: unescape(key),
            value: unescape(value).trim_end().to_owned(),
        });
    }
    properties
}

/// Does the line end in an odd number of backslashes?
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Splits at the first `=`, `:` or white space that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if matches!(c, '=' | ':') {
            return (&line[..at], line[at + 1..].trim_start());
        } else if c.is_whitespace() {
            let rest = line[at..].trim_start();
            let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..at], rest.trim_start());
        }
    }
    (line, "")
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.clone().take(4).collect();
                match u32::from_str_radix(&digits, 16) {
                    Ok(code) if digits.chars().count() == 4 => {
                        out.push(char::from_u32(code).unwrap_or('\u{fffd}'));
                        chars.nth(3);
                    }
                    _ => out.push('u'),
                }
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_java_reads_them() {
        let text = "# comment\n! comment\n\nbroker.id=0\n a = b c \nlog.dirs: /a,\\\n   /b\nk v\nempty\n\
                    esc\\=aped=\\u00e9\\t\\x\nlast\\\\=1\n";
        let pairs: Vec<_> = parse(text)
            .into_iter()
            .map(|p| format!("{} {}={}", p.line, p.key, p.value))
            .collect();
        assert_eq!(
            pairs,
            [
                "4 broker.id=0",
                "5 a=b c",
                "6 log.dirs=/a,/b",
                "8 k=v",
                "9 empty=",
                "10 esc=aped=é\tx",
                "11 last\\=1",
            ]
        );
    }

    #[test]
    fn ends_in_the_middle_are_fine() {
        for text in ["a=\\", "a=\\u12", "\\", "=", ":", "a\\", "\\u", "é=\\ué123"] {
            let _ = parse(text);
        }
    }
}
