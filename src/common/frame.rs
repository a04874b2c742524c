//! Frames with a 4-byte big-endian length in front, as both Kafka and ZooKeeper use them.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What a first read reserves at most: memory grows with bytes received, not with the length claimed.
const RESERVE_MAX: usize = 64 * 1024;

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A length that is negative, or above the limit.
    #[error("frame of {length} bytes is outside 0..={limit}")]
    Length {
        /// The length on the wire.
        length: i32,
        /// The limit in force.
        limit: usize,
    },
    /// The stream failed or ended inside a frame.
    #[error("reading a frame")]
    Io(#[from] io::Error),
}

/// Reads one frame's body; `None` when the peer closed before a new frame began.
pub async fn read_frame<R>(reader: &mut R, limit: usize) -> Result<Option<Bytes>, FrameError>
where
    R: AsyncRead + Unpin,
{
    let mut head = [0u8; 4];
    let mut have = 0;
    while have < head.len() {
        let read = reader.read(&mut head[have..]).await?;
        if read == 0 {
            if have == 0 {
                return Ok(None);
            }
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        have += read;
    }
    read_body(reader, i32::from_be_bytes(head), limit)
        .await
        .map(Some)
}

/// Reads the body of a frame whose length has been read already.
pub async fn read_body<R>(reader: &mut R, length: i32, limit: usize) -> Result<Bytes, FrameError>
where
    R: AsyncRead + Unpin,
{
    let wanted = usize::try_from(length)
        .ok()
        .filter(|wanted| *wanted <= limit)
        .ok_or(FrameError::Length { length, limit })?;
    let mut body = BytesMut::with_capacity(wanted.min(RESERVE_MAX));
    while body.len() < wanted {
        if body.capacity() == body.len() {
            body.reserve(body.len().min(wanted - body.len()).max(1));
        }
        let mut rest = (&mut *reader).take((wanted - body.len()) as u64);
        if rest.read_buf(&mut body).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_whole_and_lengths_are_bounded() {
        let big = vec![7u8; 300_000];
        let mut wire = Vec::new();
        wire.extend_from_slice(&300_000i32.to_be_bytes());
        wire.extend_from_slice(&big);
        wire.extend_from_slice(&0i32.to_be_bytes());
        let mut reader = wire.as_slice();
        assert_eq!(
            read_frame(&mut reader, 1 << 20)
                .await
                .expect("whole")
                .as_deref(),
            Some(&big[..])
        );
        assert_eq!(
            read_frame(&mut reader, 1 << 20)
                .await
                .expect("empty")
                .as_deref(),
            Some(&[][..])
        );
        assert!(
            read_frame(&mut reader, 1 << 20)
                .await
                .expect("end")
                .is_none()
        );
        for bad in [-1i32, i32::MIN, 11, i32::MAX] {
            let wire = bad.to_be_bytes();
            let result = read_frame(&mut wire.as_slice(), 10).await;
            assert!(matches!(result, Err(FrameError::Length { .. })), "{bad}");
        }
        let half = [0u8, 0, 0, 9, 1];
        assert!(matches!(
            read_frame(&mut half.as_slice(), 10).await,
            Err(FrameError::Io(_))
        ));
    }
}
