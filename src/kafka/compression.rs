//! The four codecs of record batches, over whole buffers.
//!
//! Decompression stops at a limit *while* it inflates: no size that a frame claims is believed. The
//! produce and fetch paths never come here unless a topic's configuration asks for it.

use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::batch::Compression;

/// xerial's stream header: magic, version 1, compatible since version 1.
const XERIAL_HEADER: &[u8; 16] = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
/// Block size of xerial's `SnappyOutputStream`.
const XERIAL_BLOCK: usize = 32 * 1024;
/// The largest window that a zstd frame may ask for: 8 MiB, what Kafka's clients use at most.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const ZSTD_LEVEL: i32 = 3;

/// Why a buffer could not be (de)compressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// The output would be larger than allowed.
    #[error("{codec} data inflates to more than {limit} bytes")]
    TooLarge {
        /// The codec's name.
        codec: &'static str,
        /// The limit in force.
        limit: usize,
    },
    /// The codec refused the bytes.
    #[error("{codec} data is damaged")]
    Codec {
        /// The codec's name.
        codec: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// Compresses `input`.
pub fn compress(codec: Compression, input: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let result = match codec {
        Compression::None => Ok(input.to_vec()),
        Compression::Gzip => gzip(input),
        Compression::Snappy => xerial(input),
        Compression::Lz4 => lz4(input),
        Compression::Zstd => zstd::stream::encode_all(input, ZSTD_LEVEL),
    };
    result.map_err(|source| CompressionError::Codec {
        codec: codec.name(),
        source,
    })
}

/// Decompresses `input` into at most `limit` bytes.
pub fn decompress(
    codec: Compression,
    input: &[u8],
    limit: usize,
) -> Result<Vec<u8>, CompressionError> {
    let damaged = |source| CompressionError::Codec {
        codec: codec.name(),
        source,
    };
    let result = match codec {
        Compression::None if input.len() > limit => Ok(None),
        Compression::None => Ok(Some(input.to_vec())),
        Compression::Gzip => read_bounded(MultiGzDecoder::new(input), limit),
        Compression::Snappy => unsnappy(input, limit),
        Compression::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(input), limit),
        Compression::Zstd => unzstd(input, limit),
    };
    result.map_err(damaged)?.ok_or(CompressionError::TooLarge {
        codec: codec.name(),
        limit,
    })
}

fn gzip(input: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(input)?;
    encoder.finish()
}

fn lz4(input: &[u8]) -> io::Result<Vec<u8>> {
    // What KafkaLZ4BlockOutputStream writes: 64 KiB independent blocks without checksums.
    let info = lz4_flex::frame::FrameInfo::new()
        .block_size(lz4_flex::frame::BlockSize::Max64KB)
        .block_mode(lz4_flex::frame::BlockMode::Independent);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(input)?;
    encoder.finish().map_err(io::Error::other)
}

fn xerial(input: &[u8]) -> io::Result<Vec<u8>> {
    let mut output = XERIAL_HEADER.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(XERIAL_BLOCK) {
        let block = encoder.compress_vec(block).map_err(io::Error::other)?;
        let length = u32::try_from(block.len()).map_err(io::Error::other)?;
        output.extend_from_slice(&length.to_be_bytes());
        output.extend_from_slice(&block);
    }
    Ok(output)
}

/// `Ok(None)` stands for "more than the limit", here and below.
fn read_bounded(reader: impl Read, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut output = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(&mut output)?;
    Ok((output.len() <= limit).then_some(output))
}

fn unzstd(input: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut decoder = zstd::stream::read::Decoder::new(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    read_bounded(decoder, limit)
}

fn unsnappy(input: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut output = Vec::new();
    let Some(mut blocks) = input.strip_prefix(XERIAL_HEADER) else {
        // Some clients send raw snappy; Java's reader takes it too.
        return unsnappy_block(input, limit, &mut output).map(|fits| fits.then_some(output));
    };
    while !blocks.is_empty() {
        let (length, rest) = blocks
            .split_first_chunk::<4>()
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(io::Error::other)?;
        let (block, rest) = rest
            .split_at_checked(length)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if !unsnappy_block(block, limit, &mut output)? {
            return Ok(None);
        }
        blocks = rest;
    }
    Ok(Some(output))
}

/// Appends one raw block; `false` when it does not fit.
fn unsnappy_block(block: &[u8], limit: usize, output: &mut Vec<u8>) -> io::Result<bool> {
    let claimed = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    if claimed > limit.saturating_sub(output.len()) {
        return Ok(false);
    }
    // Snappy's best ratio is below 22 (a 64-byte copy takes 3 bytes): a larger claim is a lie.
    if claimed / 32 > block.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let start = output.len();
    output.resize(start + claimed, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut output[start..])
        .map_err(io::Error::other)?;
    output.truncate(start + written);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    #[test]
    fn every_codec_reads_back_what_it_wrote() {
        for len in [0usize, 1, 100, 32 * 1024, 70_000, 200_000] {
            let input: Vec<u8> = (0..len).map(|i| (i * i / 7) as u8).collect();
            for codec in ALL {
                let small = compress(codec, &input).expect("compresses");
                let back = decompress(codec, &small, len).expect("decompresses");
                assert!(back == input, "{codec:?} {len}");
            }
        }
    }

    #[test]
    fn bombs_stop_at_the_limit_and_damage_is_an_error() {
        let zeros = vec![0u8; 4 << 20];
        for codec in ALL {
            let small = compress(codec, &zeros).expect("compresses");
            assert!(
                matches!(
                    decompress(codec, &small, 1 << 20),
                    Err(CompressionError::TooLarge {
                        limit: 0x10_0000,
                        ..
                    })
                ),
                "{codec:?}"
            );
            if codec == Compression::None {
                continue;
            }
            for cut in [small.len() / 2, small.len() / 3] {
                assert!(
                    decompress(codec, &small[..cut], 8 << 20)
                        .map_or(true, |output| output.len() < zeros.len()),
                    "{codec:?} {cut}"
                );
            }
            assert!(
                decompress(codec, &[0xff; 40], 1 << 20).is_err(),
                "{codec:?}"
            );
        }
        // A raw snappy block that claims 1 GiB.
        assert!(
            decompress(
                Compression::Snappy,
                &[0x80, 0x80, 0x80, 0x80, 4, 0, 1],
                2 << 30
            )
            .is_err()
        );
    }

    /// The bytes that snappy-java writes for a small record (from kafka-protocol's test suite).
    #[test]
    fn snappy_framing_is_xerials() {
        let wire = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x0f\x0d\x30\x18\x00\x00\x00\x01\x0csdfdsf\x00";
        let plain = b"\x18\x00\x00\x00\x01\x0csdfdsf\x00";
        assert_eq!(
            compress(Compression::Snappy, plain).expect("compresses"),
            wire
        );
        assert_eq!(
            decompress(Compression::Snappy, wire, 100).expect("framed"),
            plain
        );
        assert_eq!(
            decompress(Compression::Snappy, &wire[20..], 100).expect("raw"),
            plain
        );
    }
}
