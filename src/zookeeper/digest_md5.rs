//! The SASL mechanism DIGEST-MD5 (RFC 2831) as Java speaks it on both sides, which is how ZooKeeper's
//! clients prove who they are. Pure: nonces and passwords come in as arguments.
//!
//! Only `qop=auth`: what follows the exchange is neither signed nor encrypted.

use std::fmt::Write;

use md5::{Digest, Md5};

/// The realm of every ZooKeeper; also the host in the URI.
pub const REALM: &str = "zk-sasl-md5";
/// What a client of ZooKeeper speaks to.
const SERVICE: &str = "zookeeper";
/// The longest response, and the longest challenge.
const TOKEN_BYTES_MAX: usize = 4096;
/// Each exchange has a nonce of its own, so this is always its first use.
const NONCE_COUNT: &str = "00000001";
/// Characters of a nonce, as Java's.
pub const NONCE_BYTES: usize = 30;

/// Why an exchange failed. For logs: a client hears only that it did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// Longer than anybody needs.
    #[error("a token of {0} bytes is longer than {TOKEN_BYTES_MAX}")]
    TooLong(usize),
    /// Not a list of directives.
    #[error("the token is no list of directives: {0}")]
    Syntax(&'static str),
    /// Something that has to be there is not.
    #[error("the token lacks {0}")]
    Missing(&'static str),
    /// Something is there, but not as it has to be.
    #[error("{0} is not what it has to be")]
    Mismatch(&'static str),
    /// Nobody of this name, or another password.
    #[error("no such user, or another password")]
    Unproved,
    /// The exchange is over, or failed before.
    #[error("a token after the end of the exchange")]
    Over,
}

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To be answered by the client.
    Challenge(Vec<u8>),
    /// The end: who the client is, and the proof that the server knows the password, too.
    Proved {
        /// The user's name.
        user: String,
        /// For the client.
        token: Vec<u8>,
    },
}

/// The server's side of one exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Server {
    /// Nothing was said.
    #[default]
    Fresh,
    /// The challenge is out, with this nonce.
    Challenged(String),
    /// Proved, or failed.
    Over,
}

impl Server {
    /// Takes the client's token. `random` is for the nonce; `password` knows the users.
    pub fn evaluate(
        &mut self,
        token: &[u8],
        random: impl FnOnce(&mut [u8]),
        password: impl Fn(&str) -> Option<String>,
    ) -> Result<Step, SaslError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(SaslError::TooLong(token.len()));
        }
        match std::mem::replace(self, Server::Over) {
            // What a client says first is not looked at, as RFC 2831 allows.
            Server::Fresh => {
                let nonce = nonce(random);
                let challenge =
                    format!("realm=\"{REALM}\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess");
                *self = Server::Challenged(nonce);
                Ok(Step::Challenge(challenge.into_bytes()))
            }
            Server::Challenged(nonce) => verify(token, &nonce, password),
            Server::Over => Err(SaslError::Over),
        }
    }
}

/// A nonce of printable characters.
pub fn nonce(random: impl FnOnce(&mut [u8])) -> String {
    let mut bytes = [0u8; NONCE_BYTES];
    random(&mut bytes);
    hex(&bytes)
}

fn verify(
    token: &[u8],
    nonce: &str,
    password: impl Fn(&str) -> Option<String>,
) -> Result<Step, SaslError> {
    let said = Directives::parse(token)?;
    if said.get("charset").is_some_and(|value| value != b"utf-8") {
        return Err(SaslError::Mismatch("charset"));
    }
    let user = String::from_utf8(said.need("username")?.to_vec())
        .map_err(|_| SaslError::Mismatch("username"))?;
    if said.get("realm") != Some(REALM.as_bytes()) {
        return Err(SaslError::Mismatch("realm"));
    }
    if said.need("nonce")? != nonce.as_bytes() {
        return Err(SaslError::Mismatch("nonce"));
    }
    if said.get("qop").is_some_and(|value| value != b"auth") {
        return Err(SaslError::Mismatch("qop"));
    }
    let uri = said.need("digest-uri")?;
    let expected = format!("{SERVICE}/{REALM}");
    if !uri.eq_ignore_ascii_case(expected.as_bytes()) {
        return Err(SaslError::Mismatch("digest-uri"));
    }
    let authzid = said.get("authzid");
    // Nobody acts as somebody else.
    if authzid.is_some_and(|value| value != user.as_bytes()) {
        return Err(SaslError::Mismatch("authzid"));
    }
    let exchange = Exchange {
        user: &user,
        realm: REALM,
        nonce: nonce.as_bytes(),
        cnonce: said.need("cnonce")?,
        uri,
        authzid,
    };
    let given = said.need("response")?;
    // Worked out for nobody, too: the time that it takes does not tell who there is.
    let known = password(&user);
    let response = exchange.response("AUTHENTICATE", known.as_deref().unwrap_or_default());
    match known {
        Some(password) if equal(given, response.as_bytes()) => Ok(Step::Proved {
            token: format!("rspauth={}", exchange.response("", &password)).into_bytes(),
            user: user.clone(),
        }),
        _ => Err(SaslError::Unproved),
    }
}

/// The client's side of one exchange, once it has answered the challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    expected: String,
}

impl Client {
    /// The answer to a challenge.
    pub fn respond(
        challenge: &[u8],
        user: &str,
        password: &str,
        random: impl FnOnce(&mut [u8]),
    ) -> Result<(Client, Vec<u8>), SaslError> {
        if challenge.len() > TOKEN_BYTES_MAX {
            return Err(SaslError::TooLong(challenge.len()));
        }
        let said = Directives::parse(challenge)?;
        if said.need("algorithm")? != b"md5-sess" {
            return Err(SaslError::Mismatch("algorithm"));
        }
        let utf8 = |name| {
            let value = String::from_utf8(said.need(name)?.to_vec());
            value.map_err(|_| SaslError::Mismatch(name))
        };
        let (realm, nonce, cnonce) = (utf8("realm")?, utf8("nonce")?, nonce(random));
        let uri = format!("{SERVICE}/{REALM}");
        let exchange = Exchange {
            user,
            realm: &realm,
            nonce: nonce.as_bytes(),
            cnonce: cnonce.as_bytes(),
            uri: uri.as_bytes(),
            authzid: Some(user.as_bytes()),
        };
        let response = exchange.response("AUTHENTICATE", password);
        let answer = format!(
            "charset=utf-8,username=\"{user}\",realm=\"{realm}\",nonce=\"{nonce}\",nc={NONCE_COUNT},\
             cnonce=\"{cnonce}\",digest-uri=\"{uri}\",response={response},qop=auth,authzid=\"{user}\"",
            user = quoted(user),
            realm = quoted(&realm),
            nonce = quoted(&nonce),
        );
        let expected = exchange.response("", password);
        Ok((Client { expected }, answer.into_bytes()))
    }

    /// Did the server prove that it knows the password?
    pub fn finish(&self, token: &[u8]) -> Result<(), SaslError> {
        let said = Directives::parse(token)?;
        if equal(said.need("rspauth")?, self.expected.as_bytes()) {
            Ok(())
        } else {
            Err(SaslError::Unproved)
        }
    }
}

/// What both sides put into their digests.
struct Exchange<'a> {
    user: &'a str,
    realm: &'a str,
    nonce: &'a [u8],
    cnonce: &'a [u8],
    uri: &'a [u8],
    authzid: Option<&'a [u8]>,
}

impl Exchange<'_> {
    /// `response-value` of RFC 2831, section 2.1.2.1; of 2.1.3 with an empty method.
    fn response(&self, method: &str, password: &str) -> String {
        let (user, realm) = (latin(self.user), latin(self.realm));
        let secret = joined(&[&user, &realm, &latin(password)]);
        let secret = Md5::digest(secret);
        let mut a1 = vec![&secret[..], self.nonce, self.cnonce];
        a1.extend(self.authzid);
        let a1 = hex(&Md5::digest(joined(&a1)));
        let a2 = hex(&Md5::digest(joined(&[method.as_bytes(), self.uri])));
        let parts = [
            a1.as_bytes(),
            self.nonce,
            NONCE_COUNT.as_bytes(),
            self.cnonce,
            b"auth",
            a2.as_bytes(),
        ];
        hex(&Md5::digest(joined(&parts)))
    }
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&b':')
}

/// In ISO 8859-1 where that can be, else in UTF-8.
fn latin(text: &str) -> Vec<u8> {
    let bytes = text.chars().map(|c| u8::try_from(u32::from(c)).ok());
    let bytes: Option<Vec<u8>> = bytes.collect();
    bytes.unwrap_or_else(|| text.as_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Takes the same time for every two texts of one length.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let pairs = one.iter().zip(other);
    one.len() == other.len() && pairs.fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
}

/// `name=value` pairs.
struct Directives(Vec<(Vec<u8>, Vec<u8>)>);

impl Directives {
    /// As Java reads them: values with or without quotes, between commas or white space.
    fn parse(token: &[u8]) -> Result<Directives, SaslError> {
        let mut rest = token;
        let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        loop {
            rest = trim(rest);
            if let Some(after) = rest.strip_prefix(b",") {
                rest = after;
                continue;
            }
            if rest.is_empty() {
                return Ok(Directives(pairs));
            }
            let ends = |byte: &u8| *byte == b'=' || *byte == b',' || is_space(*byte);
            let length = rest.iter().position(ends).unwrap_or(rest.len());
            let (name, after) = rest.split_at(length);
            let after = trim(after).strip_prefix(b"=");
            let after = after.filter(|_| !name.is_empty());
            let after = trim(after.ok_or(SaslError::Syntax("a name without a value"))?);
            let (value, after) = match after.strip_prefix(b"\"") {
                Some(after) => in_quotes(after)?,
                None => {
                    let ends = |byte: &u8| *byte == b',' || is_space(*byte);
                    let length = after.iter().position(ends).unwrap_or(after.len());
                    (after[..length].to_vec(), &after[length..])
                }
            };
            if pairs.iter().any(|(known, _)| known == name) {
                return Err(SaslError::Syntax("a name twice"));
            }
            pairs.push((name.to_vec(), value));
            rest = after;
        }
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(known, _)| known == name.as_bytes());
        found.map(|(_, value)| &value[..])
    }

    fn need(&self, name: &'static str) -> Result<&[u8], SaslError> {
        self.get(name).ok_or(SaslError::Missing(name))
    }
}

/// A value and what follows its closing quote.
fn in_quotes(text: &[u8]) -> Result<(Vec<u8>, &[u8]), SaslError> {
    let open = SaslError::Syntax("a quote that does not end");
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        match text.get(at) {
            None => return Err(open),
            Some(b'"') => break,
            Some(b'\\') => {
                value.push(*text.get(at + 1).ok_or(open.clone())?);
                at += 2;
            }
            Some(byte) => {
                value.push(*byte);
                at += 1;
            }
        }
    }
    let after = &text[at + 1..];
    match after.first() {
        Some(byte) if *byte != b',' && !is_space(*byte) => {
            Err(SaslError::Syntax("a quote in front of something"))
        }
        _ => Ok((value, after)),
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_space(*byte));
    &text[start.unwrap_or(text.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 2831, section 4.
    #[test]
    fn responses_are_those_of_the_rfc() {
        for (nonce, cnonce, uri, response, rspauth) in [
            (
                "OA6MG9tEQGm2hh",
                "OA6MHXh6VqTrRk",
                "imap/elwood.innosoft.com",
                "d388dad90d4bbd760a152321f2143af7",
                "ea40f60335c427b5527b84dbabcdfffd",
            ),
            (
                "OA9BSXrbuRhWay",
                "OA9BSuZWMSpW8m",
                "acap/elwood.innosoft.com",
                "6084c6db3fede7352c551284490fd0fc",
                "2f0b3d7c3c2e486600ef710726aa2eae",
            ),
        ] {
            let exchange = Exchange {
                user: "chris",
                realm: "elwood.innosoft.com",
                nonce: nonce.as_bytes(),
                cnonce: cnonce.as_bytes(),
                uri: uri.as_bytes(),
                authzid: None,
            };
            assert_eq!(exchange.response("AUTHENTICATE", "secret"), response);
            assert_eq!(exchange.response("", "secret"), rspauth);
        }
    }

    fn challenged() -> (Server, Vec<u8>) {
        let mut server = Server::default();
        let step = server.evaluate(b"", |bytes| bytes.fill(7), |_| None);
        match step {
            Ok(Step::Challenge(challenge)) => (server, challenge),
            other => panic!("{other:?}"),
        }
    }

    fn evaluate(server: &mut Server, token: &[u8]) -> Result<Step, SaslError> {
        let password = |user: &str| match user {
            "bob" => Some("b\"ö\\b".to_owned()),
            "b\"ob" => Some("秘密".to_owned()),
            _ => None,
        };
        server.evaluate(token, |_| panic!("one nonce is enough"), password)
    }

    fn response(challenge: &[u8], user: &str, password: &str) -> (Client, Vec<u8>) {
        Client::respond(challenge, user, password, |bytes| bytes.fill(9)).expect("a challenge")
    }

    #[test]
    fn who_knows_the_password_is_proved_and_so_is_the_server() {
        for (user, password) in [("bob", "b\"ö\\b"), ("b\"ob", "秘密")] {
            let (mut server, challenge) = challenged();
            let text = String::from_utf8(challenge.clone()).expect("printable");
            assert!(text.starts_with("realm=\"zk-sasl-md5\",nonce=\""), "{text}");
            assert!(text.ends_with("\",charset=utf-8,algorithm=md5-sess"));
            let (client, token) = response(&challenge, user, password);
            match evaluate(&mut server, &token) {
                Ok(Step::Proved {
                    user: proved,
                    token,
                }) => {
                    assert_eq!(proved, user);
                    assert_eq!(client.finish(&token), Ok(()));
                    assert!(client.finish(b"rspauth=00").is_err());
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(evaluate(&mut server, &token), Err(SaslError::Over));
        }
    }

    #[test]
    fn everything_else_proves_nothing() {
        let (_, challenge) = challenged();
        let (_, good) = response(&challenge, "bob", "b\"ö\\b");
        let good = String::from_utf8(good).expect("printable");
        let (_, wrong) = response(&challenge, "bob", "bob");
        let (_, nobody) = response(&challenge, "eve", "");
        let mut tokens = vec![(wrong, SaslError::Unproved), (nobody, SaslError::Unproved)];
        for (from, to, expected) in [
            ("zk-sasl-md5", "elsewhere", SaslError::Mismatch("realm")),
            ("nonce=\"0", "nonce=\"1", SaslError::Mismatch("nonce")),
            ("qop=auth", "qop=auth-int", SaslError::Mismatch("qop")),
            ("utf-8", "utf-16", SaslError::Mismatch("charset")),
            ("zookeeper/", "kafka/", SaslError::Mismatch("digest-uri")),
            (
                "authzid=\"bob",
                "authzid=\"super",
                SaslError::Mismatch("authzid"),
            ),
            ("response=", "request=", SaslError::Missing("response")),
            ("cnonce=", "xnonce=", SaslError::Missing("cnonce")),
            (
                "qop=auth",
                "qop=auth,qop=auth",
                SaslError::Syntax("a name twice"),
            ),
            (
                "qop=auth",
                "qop",
                SaslError::Syntax("a name without a value"),
            ),
        ] {
            tokens.push((good.replacen(from, to, 1).into_bytes(), expected));
        }
        tokens.push((vec![b'a'; 5000], SaslError::TooLong(5000)));
        tokens.push((
            b"a=\"b".to_vec(),
            SaslError::Syntax("a quote that does not end"),
        ));
        tokens.push((b"=".to_vec(), SaslError::Syntax("a name without a value")));
        for (token, expected) in tokens {
            let (mut server, _) = challenged();
            let text = String::from_utf8_lossy(&token).into_owned();
            assert_eq!(evaluate(&mut server, &token), Err(expected), "{text}");
        }
        // A client that says something first is challenged all the same.
        let step = Server::default().evaluate(b"hello", |bytes| bytes.fill(1), |_| None);
        assert!(matches!(step, Ok(Step::Challenge(_))));
    }

    #[test]
    fn no_bytes_end_in_a_panic() {
        let (_, challenge) = challenged();
        let (_, good) = response(&challenge, "bob", "b\"ö\\b");
        for at in 0..good.len() {
            let (mut server, _) = challenged();
            let _ = evaluate(&mut server, &good[..at]);
            for flip in [0x01, 0x02, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                let (mut server, _) = challenged();
                let _ = evaluate(&mut server, &bad);
                let _ = Client::respond(&bad, "u", "p", |_| {});
            }
        }
    }
}
