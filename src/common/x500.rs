//! The names in certificates, written as Java writes them (`X500Principal.getName()`, RFC 2253): they are
//! the ids of ZooKeeper's scheme x509, so every character counts. Pure.

use crate::common::der::{Der, DerError, Value, dotted, tag};

/// The attributes that RFC 2253 has a word for, by object identifier.
const WORDS: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// The words that Java understands when it reads a name.
const READ: &[&str] = &[
    "CN",
    "C",
    "L",
    "S",
    "ST",
    "O",
    "OU",
    "T",
    "IP",
    "STREET",
    "DC",
    "DNQUALIFIER",
    "DNQ",
    "SURNAME",
    "GIVENNAME",
    "INITIALS",
    "GENERATION",
    "EMAIL",
    "EMAILADDRESS",
    "UID",
    "SERIALNUMBER",
];

/// What a certificate says about itself, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject's name.
    pub subject: String,
    /// The first common name, as plain text.
    pub common_name: Option<String>,
    /// Has it a list of other names?
    pub has_alternative_names: bool,
}

/// Reads the names of a certificate in DER.
pub fn certificate(der: &[u8]) -> Result<Certificate, DerError> {
    let mut tbs = Der::new(der).inside(tag::SEQUENCE)?.inside(tag::SEQUENCE)?;
    tbs.optional(tag::context(0))?; // version
    tbs.take(tag::INTEGER)?; // serial number
    tbs.take(tag::SEQUENCE)?; // signature
    tbs.take(tag::SEQUENCE)?; // issuer
    tbs.take(tag::SEQUENCE)?; // validity
    let parts = relative_names(tbs.inside(tag::SEQUENCE)?)?;
    tbs.take(tag::SEQUENCE)?; // public key
    let mut has_alternative_names = false;
    while !tbs.is_empty() {
        let value = tbs.any()?;
        if value.tag != tag::context(3) {
            continue;
        }
        let mut extensions = Der::new(value.content).inside(tag::SEQUENCE)?;
        while !extensions.is_empty() {
            let oid = extensions.inside(tag::SEQUENCE)?.take(tag::OID)?;
            has_alternative_names |= dotted(oid)? == "2.5.29.17";
        }
    }
    let common = parts.iter().flatten().find(|part| part.oid == "2.5.4.3");
    // The last part comes first.
    let written: Vec<String> = parts.iter().rev().map(|part| relative(part)).collect();
    Ok(Certificate {
        subject: written.join(","),
        common_name: common.map(|part| String::from_utf8_lossy(part.value.content).into_owned()),
        has_alternative_names,
    })
}

/// The subject's and the issuer's names of a certificate, as they stand there.
pub fn subject_and_issuer(der: &[u8]) -> Result<(&[u8], &[u8]), DerError> {
    let mut tbs = Der::new(der).inside(tag::SEQUENCE)?.inside(tag::SEQUENCE)?;
    tbs.optional(tag::context(0))?; // version
    tbs.take(tag::INTEGER)?; // serial number
    tbs.take(tag::SEQUENCE)?; // signature
    let issuer = tbs.take(tag::SEQUENCE)?;
    tbs.take(tag::SEQUENCE)?; // validity
    Ok((tbs.take(tag::SEQUENCE)?, issuer))
}

/// A certificate's public key, without what kind it is of.
pub fn public_key(der: &[u8]) -> Result<&[u8], DerError> {
    let mut tbs = Der::new(der).inside(tag::SEQUENCE)?.inside(tag::SEQUENCE)?;
    tbs.optional(tag::context(0))?; // version
    tbs.take(tag::INTEGER)?; // serial number
    for _ in 0..4 {
        tbs.take(tag::SEQUENCE)?; // signature, issuer, validity, subject
    }
    let mut info = tbs.inside(tag::SEQUENCE)?;
    info.take(tag::SEQUENCE)?;
    // In front of the bits stands how many of the last byte do not count.
    let bits = info.take(tag::BIT_STRING)?;
    bits.strip_prefix(&[0]).ok_or(DerError)
}

struct Attribute<'a> {
    oid: String,
    value: Value<'a>,
}

fn relative_names(mut name: Der<'_>) -> Result<Vec<Vec<Attribute<'_>>>, DerError> {
    let mut parts = Vec::new();
    while !name.is_empty() {
        let mut set = name.inside(tag::SET)?;
        let mut part = Vec::new();
        while !set.is_empty() {
            let mut attribute = set.inside(tag::SEQUENCE)?;
            let oid = dotted(attribute.take(tag::OID)?)?;
            let value = attribute.any()?;
            part.push(Attribute { oid, value });
        }
        parts.push(part);
    }
    Ok(parts)
}

fn relative(part: &[Attribute<'_>]) -> String {
    let written: Vec<String> = part.iter().map(attribute).collect();
    written.join("+")
}

/// `AVA.toRFC2253String`.
fn attribute(attribute: &Attribute<'_>) -> String {
    /// UTF8String, PrintableString, T61String, IA5String, GeneralString, UniversalString, BMPString.
    const STRINGS: [u8; 7] = [0x0c, 0x13, 0x14, 0x16, 0x1b, 0x1c, 0x1e];
    let word = WORDS.iter().find(|(oid, _)| *oid == attribute.oid);
    match word {
        Some((_, word)) if STRINGS.contains(&attribute.value.tag) => {
            let text = String::from_utf8_lossy(attribute.value.content);
            format!("{word}={}", escaped(&text))
        }
        _ => {
            let name = word.map_or(attribute.oid.as_str(), |(_, word)| word);
            let hex = attribute.value.whole.iter().map(|b| format!("{b:02x}"));
            format!("{name}=#{}", hex.collect::<String>())
        }
    }
}

fn escaped(text: &str) -> String {
    let is_space = |c: char| matches!(c, ' ' | '\r');
    let lead = text.len() - text.trim_start_matches(is_space).len();
    let trail = text.trim_end_matches(is_space).len();
    let mut written = String::new();
    for (at, c) in text.char_indices() {
        match c {
            '\0' => written.push_str("\\00"),
            _ => {
                let outside = at < lead || at >= trail;
                if outside || ",=+<>#;\"\\".contains(c) {
                    written.push('\\');
                }
                written.push(c);
            }
        }
    }
    written
}

/// Would Java read this as a name (`new X500Principal(text)`)?
pub fn is_name(text: &str) -> bool {
    text.is_empty() || parts(text).is_some_and(|parts| parts.iter().all(|part| is_attribute(part)))
}

/// Splits at `,`, `;` and `+`, but not in quotes nor behind a backslash; `None` where those do not end.
fn parts(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
            continue;
        }
        match c {
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' | ';' | '+' if !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!is_quoted && !is_escaped).then_some(parts)
}

fn is_attribute(text: &str) -> bool {
    let Some((word, value)) = text.split_once('=') else {
        return false;
    };
    let word = word.trim().to_ascii_uppercase();
    let oid = word.strip_prefix("OID.").unwrap_or(&word);
    let mut numbers = oid.split('.');
    let is_oid = oid.contains('.')
        && numbers.all(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    let hex = value.trim().strip_prefix('#');
    let is_hex = |hex: &str| {
        !hex.is_empty() && hex.len().is_multiple_of(2) && hex.bytes().all(|b| b.is_ascii_hexdigit())
    };
    (READ.contains(&word.as_str()) || is_oid) && hex.is_none_or(is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut out = vec![tag];
        if length < 0x80 {
            out.push(length as u8);
        } else {
            out.extend([0x82, (length >> 8) as u8, length as u8]);
        }
        out.extend(content);
        out
    }

    fn ava(oid: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        let pair = [der(tag::OID, oid), der(tag, text)].concat();
        der(tag::SEQUENCE, &pair)
    }

    /// A certificate as far as it is read.
    fn made(subject: &[Vec<u8>], extensions: &[u8]) -> Vec<u8> {
        let sets: Vec<u8> = subject.iter().flat_map(|ava| der(tag::SET, ava)).collect();
        let empty = der(tag::SEQUENCE, &[]);
        let tbs = [
            der(tag::context(0), &der(tag::INTEGER, &[2])),
            der(tag::INTEGER, &[1]),
            empty.clone(),
            empty.clone(),
            empty.clone(),
            der(tag::SEQUENCE, &sets),
            empty.clone(),
            der(tag::context(3), &der(tag::SEQUENCE, extensions)),
        ];
        let tbs = der(tag::SEQUENCE, &tbs.concat());
        der(tag::SEQUENCE, &[tbs, empty.clone(), empty].concat())
    }

    const CN: &[u8] = &[0x55, 4, 3];
    const O: &[u8] = &[0x55, 4, 10];

    /// The right sides are what Java 17 prints for the same names.
    #[test]
    fn names_are_written_as_java_writes_them() {
        let mail = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];
        for (subject, expected) in [
            (vec![], ""),
            (
                vec![
                    ava(O, 0x13, b"Example, Inc."),
                    ava(CN, 0x0c, "bö b".as_bytes()),
                ],
                "CN=bö b,O=Example\\, Inc.",
            ),
            (
                vec![ava(&mail, 0x16, b"a@b"), ava(CN, 0x13, b" #x= ")],
                "CN=\\ \\#x\\=\\ ,1.2.840.113549.1.9.1=#1603614062",
            ),
            (
                vec![[ava(CN, 0x13, b"a"), ava(O, 0x13, b"b")].concat()],
                "CN=a+O=b",
            ),
            (vec![ava(CN, 0x02, &[5])], "CN=#020105"),
        ] {
            let read = certificate(&made(&subject, &[])).expect("whole");
            assert_eq!(read.subject, expected);
            assert!(!read.has_alternative_names);
        }
        let other = der(tag::SEQUENCE, &der(tag::OID, &[0x55, 0x1d, 0x0f]));
        let names = der(tag::SEQUENCE, &der(tag::OID, &[0x55, 0x1d, 0x11]));
        let bytes = made(&[ava(CN, 0x13, b"node1")], &[other, names].concat());
        let read = certificate(&bytes).expect("whole");
        assert!(read.has_alternative_names);
        assert_eq!(read.common_name.as_deref(), Some("node1"));
        for at in 0..bytes.len() {
            assert!(certificate(&bytes[..at]).is_err(), "{at}");
            let mut bad = bytes.clone();
            bad[at] ^= 0x81;
            let _ = certificate(&bad);
        }
    }

    #[test]
    fn names_are_told_from_other_texts() {
        for name in [
            "",
            "CN=bob",
            "cn = bob , o=\"x, y\"",
            "CN=a+OU=b;O=c",
            "CN=",
            "CN=x\\,y",
            "1.2.840.113549.1.9.1=#1603614062",
            "OID.2.5.4.3=x",
            "EMAILADDRESS=a@b",
        ] {
            assert!(is_name(name), "{name}");
        }
        for bad in [
            "bob", "CN", "=x", "FOO=x", "CN=x,", "CN=\"x", "CN=x\\", "CN=#1", "CN=#zz", "1.=x",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
