//! A small value as a file's bytes: one line of JSON, and one with its checksum. A person in trouble can
//! read it, and a flipped bit or a cut is noticed. Knows nothing of files.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The bytes of a value; none where it has maps whose keys are no strings.
pub fn seal<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    let json = serde_json::to_string(value).ok()?;
    let crc = crc32c::crc32c(json.as_bytes());
    Some(format!("{json}\ncrc32c={crc:08x}\n").into_bytes())
}

/// The value, if these are the bytes of one.
pub fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (json, rest) = text.split_once('\n')?;
    let crc = rest.strip_prefix("crc32c=")?.strip_suffix('\n')?;
    let fits = crc == format!("{:08x}", crc32c::crc32c(json.as_bytes()));
    serde_json::from_str(json).ok().filter(|_| fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let value = ("a name".to_owned(), 17_u64);
        let good = seal(&value).expect("no maps");
        assert_eq!(unseal(&good), Some(value));
        for at in 0..good.len() {
            assert_eq!(unseal::<(String, u64)>(&good[..at]), None, "cut at {at}");
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(unseal::<(String, u64)>(&bad), None, "bit {bit} of {at}");
            }
        }
    }
}
