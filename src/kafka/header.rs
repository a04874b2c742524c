//! The header in front of every request and response.
//!
//! Read by hand: the crate's own reader panics on frames that are shorter than four bytes, and an
//! unknown API key must still give its correlation id.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;

use crate::kafka::bounds::{self, BoundsError};

/// What a client says in front of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub key: i16,
    /// Which version of it.
    pub version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<String>,
}

/// Why a header is refused; the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The frame ends inside the header.
    #[error("the frame ends inside the request header")]
    Short,
    /// The client id is not UTF-8 or has a negative length other than -1.
    #[error("the client id is malformed")]
    ClientId,
    /// The tagged fields do not fit.
    #[error("the header's tagged fields are malformed")]
    Tagged(#[source] BoundsError),
    /// No API has this key, so what follows the fixed part cannot be read.
    #[error("unknown API key {0}")]
    UnknownKey(i16),
}

/// Takes the header off a frame; what is left is the body.
///
/// The form of the header depends on the API and its version; versions above the highest known one
/// are read as that one, so that ApiVersions can answer them.
pub fn parse(mut frame: Bytes) -> Result<(RequestHeader, Bytes), HeaderError> {
    if frame.len() < 8 {
        return Err(HeaderError::Short);
    }
    let key = frame.get_i16();
    let version = frame.get_i16();
    let correlation_id = frame.get_i32();
    let api = ApiKey::try_from(key).map_err(|_| HeaderError::UnknownKey(key))?;
    let form = api.request_header_version(version.min(api.valid_versions().max));
    let client_id = if form >= 1 {
        client_id(&mut frame)?
    } else {
        None
    };
    if form >= 2 {
        let length = bounds::check_tagged_fields(&frame).map_err(HeaderError::Tagged)?;
        frame.advance(length);
    }
    Ok((
        RequestHeader {
            key,
            version,
            correlation_id,
            client_id,
        },
        frame,
    ))
}

/// A nullable string of the non-compact kind, in every version of the header.
fn client_id(frame: &mut Bytes) -> Result<Option<String>, HeaderError> {
    if frame.len() < 2 {
        return Err(HeaderError::Short);
    }
    let length = frame.get_i16();
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| HeaderError::ClientId)?;
    if length > frame.len() {
        return Err(HeaderError::Short);
    }
    let text = frame.split_to(length);
    std::str::from_utf8(&text)
        .map(|text| Some(text.to_owned()))
        .map_err(|_| HeaderError::ClientId)
}

/// Writes a request's header.
pub fn put_request(header: &RequestHeader, into: &mut BytesMut) {
    into.put_i16(header.key);
    into.put_i16(header.version);
    into.put_i32(header.correlation_id);
    let form =
        ApiKey::try_from(header.key).map_or(1, |api| api.request_header_version(header.version));
    if form >= 1 {
        match &header.client_id {
            Some(text) => {
                let text = &text.as_bytes()[..text.len().min(i16::MAX as usize)];
                into.put_i16(text.len() as i16);
                into.put_slice(text);
            }
            None => into.put_i16(-1),
        }
    }
    if form >= 2 {
        into.put_u8(0);
    }
}

/// Writes a response's header. ApiVersions has the first form in every version.
pub fn put_response(key: i16, version: i16, correlation_id: i32, into: &mut BytesMut) {
    into.put_i32(correlation_id);
    if ApiKey::try_from(key).is_ok_and(|api| api.response_header_version(version) >= 1) {
        into.put_u8(0);
    }
}

/// Takes the header off a response; gives its correlation id, and leaves the body.
pub fn take_response(key: i16, version: i16, frame: &mut Bytes) -> Result<i32, HeaderError> {
    if frame.len() < 4 {
        return Err(HeaderError::Short);
    }
    let correlation_id = frame.get_i32();
    if ApiKey::try_from(key).is_ok_and(|api| api.response_header_version(version) >= 1) {
        let length = bounds::check_tagged_fields(frame).map_err(HeaderError::Tagged)?;
        frame.advance(length);
    }
    Ok(correlation_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(header: &RequestHeader) -> Bytes {
        let mut bytes = BytesMut::new();
        put_request(header, &mut bytes);
        bytes.put_slice(b"body");
        bytes.freeze()
    }

    #[test]
    fn headers_read_back_in_every_form() {
        // Metadata is flexible from version 9 on; ApiVersions' response header never is.
        for (key, version) in [(3, 1), (3, 9), (18, 0), (18, 3), (0, 9), (10, 3)] {
            for client_id in [None, Some(String::new()), Some("kafka-cli-é".to_owned())] {
                let header = RequestHeader {
                    key,
                    version,
                    correlation_id: -7,
                    client_id,
                };
                let (read, body) = parse(written(&header)).expect("well formed");
                assert_eq!((read, &body[..]), (header, &b"body"[..]));
            }
        }
        let mut answer = BytesMut::new();
        put_response(18, 3, 5, &mut answer);
        assert_eq!(answer.len(), 4);
        put_response(3, 9, 5, &mut answer);
        assert_eq!(answer.len(), 9);
        assert_eq!(
            take_response(18, 3, &mut Bytes::from_static(&[0, 0, 0, 9])),
            Ok(9)
        );
        assert_eq!(
            take_response(3, 9, &mut Bytes::from_static(&[0, 0, 0, 9, 0])),
            Ok(9)
        );
        assert!(take_response(3, 9, &mut Bytes::from_static(&[0, 0, 0, 9])).is_err());
    }

    #[test]
    fn a_version_of_api_versions_that_nobody_knows_yet_is_read() {
        let header = RequestHeader {
            key: 18,
            version: 4,
            correlation_id: 1,
            client_id: Some("x".into()),
        };
        let mut frame = BytesMut::from(&written(&header)[..]);
        frame[2..4].copy_from_slice(&99i16.to_be_bytes());
        let (read, _) = parse(frame.freeze()).expect("read as the highest known version");
        assert_eq!((read.key, read.version, read.correlation_id), (18, 99, 1));
    }

    #[test]
    fn short_and_garbled_headers_are_refused() {
        let whole = written(&RequestHeader {
            key: 3,
            version: 12,
            correlation_id: 1,
            client_id: Some("client".into()),
        });
        for cut in 0..17 {
            assert!(parse(whole.slice(..cut)).is_err(), "{cut}");
        }
        assert_eq!(
            parse(Bytes::from_static(&[0x7f, 0xff, 0, 0, 0, 0, 0, 0])),
            Err(HeaderError::UnknownKey(0x7fff))
        );
        let bad_text = Bytes::from_static(&[0, 3, 0, 1, 0, 0, 0, 0, 0, 2, 0xff, 0xff]);
        assert_eq!(parse(bad_text), Err(HeaderError::ClientId));
        let negative = Bytes::from_static(&[0, 3, 0, 1, 0, 0, 0, 0, 0xff, 0xf0]);
        assert_eq!(parse(negative), Err(HeaderError::ClientId));
    }
}
