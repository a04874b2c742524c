//! DER: tags, lengths and values of ASN.1, as certificates and key stores are written. Pure.
//!
//! Reads slices and copies nothing. Lengths are checked against the bytes that are there.

/// The tags that are met here.
#[allow(missing_docs, reason = "the names are ASN.1's own")]
pub mod tag {
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OID: u8 = 0x06;
    pub const UTF8_STRING: u8 = 0x0c;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
    /// `[n]`, constructed.
    pub const fn context(n: u8) -> u8 {
        0xa0 | n
    }
}

/// Bytes that are no DER, or not the value that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the DER is damaged, or not of the kind that is expected here")]
pub struct DerError;

/// What is left to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Der<'a>(&'a [u8]);

/// One value with its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// See [`tag`].
    pub tag: u8,
    /// What it holds.
    pub content: &'a [u8],
    /// All of it, tag and length included.
    pub whole: &'a [u8],
}

impl<'a> Der<'a> {
    /// Reads `bytes` from their beginning.
    pub fn new(bytes: &'a [u8]) -> Der<'a> {
        Der(bytes)
    }

    /// Is nothing left?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next value.
    pub fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next value, whatever it is.
    pub fn any(&mut self) -> Result<Value<'a>, DerError> {
        let [tag, first, rest @ ..] = self.0 else {
            return Err(DerError);
        };
        // Tags of several bytes are not met here.
        if tag & 0x1f == 0x1f {
            return Err(DerError);
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let digits = rest.get(..count).ok_or(DerError)?;
                let length = digits.iter().fold(0u64, |acc, b| acc << 8 | u64::from(*b));
                let length = usize::try_from(length).map_err(|_| DerError)?;
                (length, &rest[count..])
            }
            // Among them a length that is told at the end, which is BER.
            _ => return Err(DerError),
        };
        let content = rest.get(..length).ok_or(DerError)?;
        let head = self.0.len() - rest.len();
        let (whole, after) = self.0.split_at(head + length);
        self.0 = after;
        Ok(Value {
            tag: *tag,
            content,
            whole,
        })
    }

    /// The content of the next value, which has this tag.
    pub fn take(&mut self, tag: u8) -> Result<&'a [u8], DerError> {
        match self.any()? {
            value if value.tag == tag => Ok(value.content),
            _ => Err(DerError),
        }
    }

    /// The next value's parts.
    pub fn inside(&mut self, tag: u8) -> Result<Der<'a>, DerError> {
        self.take(tag).map(Der)
    }

    /// The next value, if it has this tag.
    pub fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, DerError> {
        match self.peek() {
            Some(found) if found == tag => self.take(tag).map(Some),
            _ => Ok(None),
        }
    }

    /// The next value as a small number that is not negative.
    pub fn number(&mut self) -> Result<u32, DerError> {
        let bytes = self.take(tag::INTEGER)?;
        match bytes {
            [] => Err(DerError),
            _ if bytes.len() > 5 || bytes[0] >= 0x80 => Err(DerError),
            _ => {
                let number = bytes.iter().fold(0u64, |acc, b| acc << 8 | u64::from(*b));
                u32::try_from(number).map_err(|_| DerError)
            }
        }
    }
}

/// A value with this tag.
pub fn written(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(short as u8),
        _ => {
            out.push(0x80 | length.len() as u8);
            out.extend_from_slice(length);
        }
    }
    out.extend_from_slice(content);
    out
}

/// An object identifier with dots.
pub fn dotted(oid: &[u8]) -> Result<String, DerError> {
    let mut text = String::new();
    let mut number = 0u64;
    let mut is_inside = false;
    for byte in oid {
        if number >> 56 != 0 {
            return Err(DerError);
        }
        number = number << 7 | u64::from(byte & 0x7f);
        is_inside = byte & 0x80 != 0;
        if is_inside {
            continue;
        }
        if text.is_empty() {
            // The first byte is two numbers.
            let first = (number / 40).min(2);
            text = format!("{first}.{}", number - 40 * first);
        } else {
            text.push_str(&format!(".{number}"));
        }
        number = 0;
    }
    if is_inside || text.is_empty() {
        return Err(DerError);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_one_after_the_other() {
        let mut der = Der::new(&[
            0x30, 0x05, 0x02, 0x01, 0x07, 0x05, 0x00, 0x04, 0x81, 0x01, 0xaa,
        ]);
        let mut sequence = der.inside(tag::SEQUENCE).expect("there");
        assert_eq!(sequence.number(), Ok(7));
        assert_eq!(sequence.optional(tag::OID), Ok(None));
        assert_eq!(sequence.any().map(|value| value.whole), Ok(&[5u8, 0][..]));
        assert!(sequence.is_empty());
        assert_eq!(der.take(tag::OCTET_STRING), Ok(&[0xaa_u8][..]));
        assert_eq!(der.any(), Err(DerError));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let whole = written(tag::OCTET_STRING, &content);
            let mut der = Der::new(&whole);
            assert_eq!(der.take(tag::OCTET_STRING), Ok(&content[..]));
            assert!(der.is_empty());
        }
    }

    #[test]
    fn lies_are_refused() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x01],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0],
            &[0x30, 0x85, 0, 0, 0, 0, 1, 0],
            &[0x1f, 0x01, 0x00],
        ] {
            assert_eq!(Der::new(bytes).any(), Err(DerError), "{bytes:?}");
        }
        for bytes in [&[2, 0][..], &[2, 1, 0x80], &[2, 5, 1, 0, 0, 0, 0]] {
            assert_eq!(Der::new(bytes).number(), Err(DerError), "{bytes:?}");
        }
    }

    #[test]
    fn identifiers_are_written_with_dots() {
        for (oid, expected) in [
            (&[0x55, 0x04, 0x03][..], Ok("2.5.4.3")),
            (
                &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01],
                Ok("1.2.840.113549.1.9.1"),
            ),
            (&[0x88, 0x37, 0x03], Ok("2.999.3")),
            (&[], Err(DerError)),
            (&[0x55, 0x84], Err(DerError)),
            (&[0xff; 12], Err(DerError)),
        ] {
            assert_eq!(
                dotted(oid).as_deref(),
                expected.as_ref().map(|s| *s),
                "{oid:?}"
            );
        }
    }
}
