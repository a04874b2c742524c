//! Jute, ZooKeeper's serialization: big-endian integers, byte strings with a length, vectors with a
//! count; a length of −1 is null.
//!
//! Nothing is allocated for a length or a count before the bytes behind it are known to be there.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JuteError {
    /// The record ends before its last field.
    #[error("the record is cut short")]
    Short,
    /// A length or count that is negative and not −1, or larger than what is there.
    #[error("length {0} does not fit the record")]
    Length(i32),
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// A code that this record cannot carry.
    #[error("code {0} is not known here")]
    Code(i32),
}

/// Something with a jute form.
pub trait Jute: Sized {
    /// Appends the jute form to `out`.
    fn encode(&self, out: &mut BytesMut);
    /// Takes one value off the front of `input`.
    fn decode(input: &mut Bytes) -> Result<Self, JuteError>;
}

/// Encodes one value into bytes of its own.
pub fn to_bytes<T: Jute>(value: &T) -> Bytes {
    let mut out = BytesMut::new();
    value.encode(&mut out);
    out.freeze()
}

impl Jute for i32 {
    fn encode(&self, out: &mut BytesMut) {
        out.put_i32(*self);
    }
    fn decode(input: &mut Bytes) -> Result<i32, JuteError> {
        input.try_get_i32().map_err(|_| JuteError::Short)
    }
}

impl Jute for i64 {
    fn encode(&self, out: &mut BytesMut) {
        out.put_i64(*self);
    }
    fn decode(input: &mut Bytes) -> Result<i64, JuteError> {
        input.try_get_i64().map_err(|_| JuteError::Short)
    }
}

impl Jute for bool {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }
    fn decode(input: &mut Bytes) -> Result<bool, JuteError> {
        // Java's DataInput: every byte but 0 is true.
        input
            .try_get_u8()
            .map(|byte| byte != 0)
            .map_err(|_| JuteError::Short)
    }
}

/// A buffer; `None` is null, which is not the same as empty.
impl Jute for Option<Bytes> {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            None => out.put_i32(-1),
            Some(bytes) => put_buffer(out, bytes),
        }
    }
    fn decode(input: &mut Bytes) -> Result<Option<Bytes>, JuteError> {
        let length = i32::decode(input)?;
        if length == -1 {
            return Ok(None);
        }
        match usize::try_from(length) {
            Ok(wanted) if wanted <= input.len() => Ok(Some(input.split_to(wanted))),
            _ => Err(JuteError::Length(length)),
        }
    }
}

/// A string; null is read as empty, which no operation takes for a valid path.
impl Jute for String {
    fn encode(&self, out: &mut BytesMut) {
        put_buffer(out, self.as_bytes());
    }
    fn decode(input: &mut Bytes) -> Result<String, JuteError> {
        let bytes = Option::<Bytes>::decode(input)?.unwrap_or_default();
        std::str::from_utf8(&bytes)
            .map(str::to_owned)
            .map_err(|_| JuteError::Utf8)
    }
}

/// A vector; null is read as empty.
impl<T: Jute> Jute for Vec<T> {
    fn encode(&self, out: &mut BytesMut) {
        put_length(out, self.len());
        for item in self {
            item.encode(out);
        }
    }
    fn decode(input: &mut Bytes) -> Result<Vec<T>, JuteError> {
        let count = i32::decode(input)?;
        if count == -1 {
            return Ok(Vec::new());
        }
        // No item is shorter than one byte, so a count above what is left is a lie.
        match usize::try_from(count) {
            Ok(wanted) if wanted <= input.len() => {}
            _ => return Err(JuteError::Length(count)),
        }
        // Grows with what is decoded, never with what is claimed.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(T::decode(input)?);
        }
        Ok(items)
    }
}

/// Appends a buffer that is not null.
pub fn put_buffer(out: &mut BytesMut, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

fn put_length(out: &mut BytesMut, length: usize) {
    // Everything we encode came in through a frame or a tree that is bounded far below 2 GiB.
    out.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
}

/// Appends a frame: four bytes of length, then what `body` writes.
pub fn put_frame(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_i32(0);
    body(out);
    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Declares records: structs whose fields follow each other on the wire.
macro_rules! records {
    ($($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type),* }

        impl $crate::zookeeper::jute::Jute for $name {
            fn encode(&self, out: &mut bytes::BytesMut) {
                $($crate::zookeeper::jute::Jute::encode(&self.$field, out);)*
                let _ = out;
            }
            fn decode(input: &mut bytes::Bytes) -> Result<Self, $crate::zookeeper::jute::JuteError> {
                let _ = &input;
                Ok($name { $($field: <$type as $crate::zookeeper::jute::Jute>::decode(input)?),* })
            }
        }
    )*};
}
pub(crate) use records;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_buffers_are_told_apart() {
        for (value, wire) in [
            (None, &[0xff, 0xff, 0xff, 0xff][..]),
            (Some(Bytes::new()), &[0, 0, 0, 0][..]),
            (
                Some(Bytes::from_static(b"ab")),
                &[0, 0, 0, 2, b'a', b'b'][..],
            ),
        ] {
            assert_eq!(to_bytes(&value), wire);
            let mut input = Bytes::copy_from_slice(wire);
            assert_eq!(Option::<Bytes>::decode(&mut input), Ok(value));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn lying_lengths_are_refused_before_anything_is_allocated() {
        let huge = |n: i32| Bytes::copy_from_slice(&n.to_be_bytes());
        for n in [i32::MAX, i32::MIN, -2, 1] {
            assert_eq!(
                Option::<Bytes>::decode(&mut huge(n)),
                Err(JuteError::Length(n))
            );
            assert_eq!(
                Vec::<String>::decode(&mut huge(n)),
                Err(JuteError::Length(n))
            );
        }
        assert_eq!(i64::decode(&mut huge(1)), Err(JuteError::Short));
        let mut bad = Bytes::from_static(&[0, 0, 0, 1, 0xff]);
        assert_eq!(String::decode(&mut bad), Err(JuteError::Utf8));
    }
}
