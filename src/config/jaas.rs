//! JAAS files: who may log in, in the syntax of Java's `java.security.auth.login.config`.
//!
//! Pure: text in, sections out. Only ZooKeeper's DIGEST-MD5 modules mean something here; what names another
//! module is for those who look at it to refuse.

use std::collections::BTreeMap;

use crate::config::raw::cut;

/// ZooKeeper's login module for DIGEST-MD5, on both sides.
pub const DIGEST_MODULE: &str = "org.apache.zookeeper.server.auth.DigestLoginModule";

/// `Name { module flag key="value" …; };` by name.
pub type Sections = BTreeMap<String, Vec<Module>>;

/// One module of a section.
#[derive(Clone, PartialEq, Eq)]
pub struct Module {
    /// Its Java class.
    pub class: String,
    /// Its options; some are passwords.
    pub options: BTreeMap<String, String>,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("class", &self.class)
            .field("options", &self.options.keys())
            .finish()
    }
}

/// A word, a text in quotes, or a sign.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(String),
    Sign(char),
}

/// Reads a file; what is wrong comes with its line.
pub fn parse(text: &str) -> Result<Sections, String> {
    let tokens = tokens(text)?;
    let mut reader = Reader {
        rest: tokens.iter(),
        line: 1,
    };
    let mut sections = Sections::new();
    while let Some(name) = reader.text_or_end()? {
        reader.sign('{')?;
        let mut modules = Vec::new();
        while !reader.is_next('}') {
            modules.push(reader.module()?);
        }
        reader.sign('}')?;
        reader.sign(';')?;
        if sections.insert(name.clone(), modules).is_some() {
            let line = reader.line;
            return Err(format!("line {line}: {} is there twice", cut(&name)));
        }
    }
    Ok(sections)
}

struct Reader<'a> {
    rest: std::slice::Iter<'a, (usize, Token)>,
    /// Of the last token taken.
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<Token> {
        let (line, token) = self.rest.next()?;
        self.line = *line;
        Some(token.clone())
    }

    fn is_next(&self, sign: char) -> bool {
        let next = self.rest.as_slice().first();
        next.is_some_and(|(_, token)| *token == Token::Sign(sign))
    }

    fn expected(&self, what: &str) -> String {
        format!("line {}: {what} is expected here", self.line)
    }

    fn sign(&mut self, sign: char) -> Result<(), String> {
        match self.next() {
            Some(Token::Sign(found)) if found == sign => Ok(()),
            _ => Err(self.expected(&format!("'{sign}'"))),
        }
    }

    fn text(&mut self, what: &str) -> Result<String, String> {
        match self.next() {
            Some(Token::Text(text)) => Ok(text),
            _ => Err(self.expected(what)),
        }
    }

    fn text_or_end(&mut self) -> Result<Option<String>, String> {
        match self.next() {
            None => Ok(None),
            Some(Token::Text(text)) => Ok(Some(text)),
            Some(Token::Sign(_)) => Err(self.expected("the name of a section")),
        }
    }

    fn module(&mut self) -> Result<Module, String> {
        let class = self.text("the class of a login module")?;
        let flag = self.text("a control flag")?;
        let flags = ["required", "requisite", "sufficient", "optional"];
        if !flags.contains(&flag.to_ascii_lowercase().as_str()) {
            return Err(self.expected("required, requisite, sufficient or optional"));
        }
        let mut options = BTreeMap::new();
        while !self.is_next(';') {
            let key = self.text("';' or the name of an option")?;
            self.sign('=')?;
            let value = self.text("the value of an option")?;
            if value.contains("${") {
                return Err(format!(
                    "line {}: the value of {} has a ${{…}}, which is not replaced here",
                    self.line,
                    cut(&key)
                ));
            }
            options.insert(key, value);
        }
        self.sign(';')?;
        Ok(Module { class, options })
    }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            _ if c.is_whitespace() => {}
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|c| *c != '\n').is_some() {},
            '/' if chars.peek() == Some(&'*') => {
                let mut before = ' ';
                chars.next();
                loop {
                    let c = chars.next();
                    let c = c.ok_or_else(|| format!("line {line}: a comment does not end"))?;
                    line += usize::from(c == '\n');
                    if before == '*' && c == '/' {
                        break;
                    }
                    before = c;
                }
            }
            '"' => {
                let text = in_quotes(&mut chars);
                let text = text.ok_or_else(|| format!("line {line}: a quote does not end"))?;
                tokens.push((line, Token::Text(text)));
            }
            '{' | '}' | ';' | '=' => tokens.push((line, Token::Sign(c))),
            _ if is_word(c) => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| is_word(*c)) {
                    word.push(c);
                }
                tokens.push((line, Token::Text(word)));
            }
            _ => {
                return Err(format!(
                    "line {line}: '{}' is not expected",
                    c.escape_default()
                ));
            }
        }
    }
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '$' | '_' | '-' | '*' | '.' | '#') || u32::from(c) >= 0xa0
}

/// The text up to the closing quote, which has to be on the same line.
fn in_quotes(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\n' => return None,
            '\\' => text.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '\n' => return None,
                other => other,
            }),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_read_as_java_reads_them() {
        let text = "/* who */ Server {\n  org.apache.zookeeper.server.auth.DigestLoginModule required\n\
                    user_super=\"adminsecret\" // the first\n  user_bob=\"b\\\"ob\";\n};\n\
                    Client { a.B optional username=bob; c.D SUFFICIENT; };\n";
        let sections = parse(text).expect("legal");
        let server = &sections["Server"][0];
        assert_eq!(server.class, DIGEST_MODULE);
        let users: Vec<_> = server
            .options
            .iter()
            .map(|(k, v)| (&k[..], &v[..]))
            .collect();
        assert_eq!(
            users,
            [("user_bob", "b\"ob"), ("user_super", "adminsecret")]
        );
        assert_eq!(sections["Client"].len(), 2);
        assert!(!format!("{server:?}").contains("secret"));
        assert_eq!(parse(" \n"), Ok(Sections::new()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, expected) in [
            ("Server", "line 1: '{' is expected here"),
            (
                "Server {",
                "line 1: the class of a login module is expected here",
            ),
            (
                "Server {\n a.B always; };",
                "line 2: required, requisite, sufficient or optional is expected here",
            ),
            (
                "Server { a.B required x; };",
                "line 1: '=' is expected here",
            ),
            (
                "Server { a.B required\nx=\"y };",
                "line 2: a quote does not end",
            ),
            ("Server { a.B required; }\n", "line 1: ';' is expected here"),
            (
                "Server { a.B required x=\"${y}\"; };",
                "line 1: the value of x has a ${…}, which is not replaced here",
            ),
            ("A { }; A { };", "line 1: A is there twice"),
            ("A { }; /* ", "line 1: a comment does not end"),
            ("@", "line 1: '@' is not expected"),
            (";", "line 1: the name of a section is expected here"),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
    }
}
