//! PKCS #12 key stores (RFC 7292), as `keytool` and `openssl` write them. Pure.
//!
//! Everything is decrypted with the one password that Java knows, too. Nothing is believed before the
//! store's own checksum, where it has one, was found right.

use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut, InnerIvInit, KeyIvInit};
use des::TdesEde3;
use hmac::digest::core_api::BlockSizeUser;
use hmac::digest::{Digest, FixedOutputReset};
use hmac::{Mac, SimpleHmac};
use rc2::Rc2;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use super::store::{Contents, Key, StoreError};
use crate::common::der::{Der, DerError, dotted, tag};
use crate::common::x500;

/// More rounds than Java would do.
const ROUNDS_MAX: u32 = 5_000_000;

const DATA: &str = "1.2.840.113549.1.7.1";
const ENCRYPTED_DATA: &str = "1.2.840.113549.1.7.6";
const KEY_BAG: &str = "1.2.840.113549.1.12.10.1.1";
const SHROUDED_KEY_BAG: &str = "1.2.840.113549.1.12.10.1.2";
const CERTIFICATE_BAG: &str = "1.2.840.113549.1.12.10.1.3";
const X509: &str = "1.2.840.113549.1.9.22.1";
const LOCAL_KEY_ID: &str = "1.2.840.113549.1.9.21";
/// How Java marks what is trusted.
const TRUSTED_KEY_USAGE: &str = "2.16.840.1.113894.746875.1.1";

impl From<DerError> for StoreError {
    fn from(_: DerError) -> StoreError {
        StoreError::Damaged
    }
}

/// What a store's bags hold, before it is known what belongs together.
#[derive(Default)]
struct Bags {
    /// Private keys in PKCS #8, with their ids.
    keys: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    certificates: Vec<Certificate>,
}

struct Certificate {
    der: CertificateDer<'static>,
    local_key_id: Option<Vec<u8>>,
    is_trusted: bool,
}

/// Opens a store.
pub(super) fn read(bytes: &[u8], password: &str) -> Result<Contents, StoreError> {
    let mut pfx = Der::new(bytes).inside(tag::SEQUENCE)?;
    pfx.number()?;
    let safes = content(pfx.inside(tag::SEQUENCE)?)?;
    let Part::Plain(safes) = safes else {
        return Err(StoreError::Unsupported(
            "a store that is signed instead of having a checksum",
        ));
    };
    if !pfx.is_empty() {
        check(pfx.inside(tag::SEQUENCE)?, safes, password)?;
    }
    let mut bags = Bags::default();
    let mut safes = Der::new(safes).inside(tag::SEQUENCE)?;
    while !safes.is_empty() {
        match content(safes.inside(tag::SEQUENCE)?)? {
            Part::Plain(safe) => bags.read(safe, password)?,
            Part::Encrypted(scheme, data) => {
                bags.read(&decrypt(scheme, data, password)?, password)?
            }
        }
    }
    bags.sorted()
}

/// A part of the store.
enum Part<'a> {
    Plain(&'a [u8]),
    Encrypted(Der<'a>, &'a [u8]),
}

fn content(mut info: Der<'_>) -> Result<Part<'_>, StoreError> {
    let kind = dotted(info.take(tag::OID)?)?;
    let mut inside = info.inside(tag::context(0))?;
    match kind.as_str() {
        DATA => Ok(Part::Plain(inside.take(tag::OCTET_STRING)?)),
        ENCRYPTED_DATA => {
            let mut data = inside.inside(tag::SEQUENCE)?;
            data.number()?;
            let mut info = data.inside(tag::SEQUENCE)?;
            info.take(tag::OID)?;
            let scheme = info.inside(tag::SEQUENCE)?;
            // [0] IMPLICIT OCTET STRING
            Ok(Part::Encrypted(scheme, info.take(0x80)?))
        }
        _ => Err(StoreError::Unsupported(
            "a part that is encrypted for a certificate",
        )),
    }
}

impl Bags {
    fn read(&mut self, safe: &[u8], password: &str) -> Result<(), StoreError> {
        let mut bags = Der::new(safe).inside(tag::SEQUENCE)?;
        while !bags.is_empty() {
            let mut bag = bags.inside(tag::SEQUENCE)?;
            let kind = dotted(bag.take(tag::OID)?)?;
            let mut value = bag.inside(tag::context(0))?;
            let (local_key_id, is_trusted) = match bag.optional(tag::SET)? {
                Some(attributes) => attributes_of(Der::new(attributes))?,
                None => (None, false),
            };
            match kind.as_str() {
                KEY_BAG => self.keys.push((value.any()?.whole.to_vec(), local_key_id)),
                SHROUDED_KEY_BAG => {
                    let mut info = value.inside(tag::SEQUENCE)?;
                    let scheme = info.inside(tag::SEQUENCE)?;
                    let key = decrypt(scheme, info.take(tag::OCTET_STRING)?, password)?;
                    self.keys.push((key, local_key_id));
                }
                CERTIFICATE_BAG => {
                    let mut certificate = value.inside(tag::SEQUENCE)?;
                    if dotted(certificate.take(tag::OID)?)? == X509 {
                        let mut inside = certificate.inside(tag::context(0))?;
                        self.certificates.push(Certificate {
                            der: inside.take(tag::OCTET_STRING)?.to_vec().into(),
                            local_key_id,
                            is_trusted,
                        });
                    }
                }
                // Lists of revoked certificates, and passwords.
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts keys and certificates together.
    fn sorted(self) -> Result<Contents, StoreError> {
        let mut keys = Vec::new();
        for (key, id) in &self.keys {
            let own = |certificate: &&Certificate| id.is_some() && certificate.local_key_id == *id;
            let leaf = self.certificates.iter().find(own);
            let Some(leaf) = leaf.or(self.certificates.first()) else {
                continue;
            };
            keys.push(Key {
                key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone())),
                chain: self.chain(&leaf.der)?,
            });
        }
        // Java trusts what is marked, and its own certificates; openssl marks nothing.
        let is_trusted = |certificate: &&Certificate| {
            let is_own = |key: &Key| key.chain.first() == Some(&certificate.der);
            certificate.is_trusted || keys.iter().any(is_own)
        };
        let trusted: Vec<_> = self.certificates.iter().filter(is_trusted).collect();
        let trusted = match trusted.is_empty() {
            true => self.certificates.iter().collect(),
            false => trusted,
        };
        Ok(Contents {
            trusted: trusted.iter().map(|found| found.der.clone()).collect(),
            keys,
        })
    }

    /// A certificate, its issuer's, and so on.
    fn chain(
        &self,
        leaf: &CertificateDer<'static>,
    ) -> Result<Vec<CertificateDer<'static>>, StoreError> {
        let mut chain = vec![leaf.clone()];
        let mut last = leaf;
        loop {
            let (subject, issuer) = x500::subject_and_issuer(last)?;
            if subject == issuer {
                return Ok(chain);
            }
            let mut others = self.certificates.iter();
            let next = others.find(|other| {
                x500::subject_and_issuer(&other.der).is_ok_and(|(subject, _)| subject == issuer)
            });
            match next {
                Some(next) if !chain.contains(&next.der) => {
                    chain.push(next.der.clone());
                    last = &next.der;
                }
                _ => return Ok(chain),
            }
        }
    }
}

/// The id that a key and its certificate share, and whether Java trusts the certificate.
fn attributes_of(mut attributes: Der<'_>) -> Result<(Option<Vec<u8>>, bool), StoreError> {
    let (mut id, mut is_trusted) = (None, false);
    while !attributes.is_empty() {
        let mut attribute = attributes.inside(tag::SEQUENCE)?;
        match dotted(attribute.take(tag::OID)?)?.as_str() {
            LOCAL_KEY_ID => {
                let mut values = attribute.inside(tag::SET)?;
                id = Some(values.take(tag::OCTET_STRING)?.to_vec());
            }
            TRUSTED_KEY_USAGE => is_trusted = true,
            _ => {}
        }
    }
    Ok((id, is_trusted))
}

fn rounds(der: &mut Der<'_>) -> Result<u32, StoreError> {
    match der.number()? {
        count @ 1..=ROUNDS_MAX => Ok(count),
        _ => Err(StoreError::Unsupported(
            "a password that is worked on for so many rounds",
        )),
    }
}

/// `MacData`: is the password right, and are these the bytes that were written?
fn check(mut mac: Der<'_>, data: &[u8], password: &str) -> Result<(), StoreError> {
    let mut info = mac.inside(tag::SEQUENCE)?;
    let hash = dotted(info.inside(tag::SEQUENCE)?.take(tag::OID)?)?;
    let expected = info.take(tag::OCTET_STRING)?;
    let salt = mac.take(tag::OCTET_STRING)?;
    let count = match mac.peek() {
        Some(_) => rounds(&mut mac)?,
        None => 1,
    };
    let password = utf16(password);
    let is_right = match hash.as_str() {
        "1.3.14.3.2.26" => is_mac::<Sha1>(expected, data, &password, salt, count),
        "2.16.840.1.101.3.4.2.1" => is_mac::<Sha256>(expected, data, &password, salt, count),
        "2.16.840.1.101.3.4.2.2" => is_mac::<Sha384>(expected, data, &password, salt, count),
        "2.16.840.1.101.3.4.2.3" => is_mac::<Sha512>(expected, data, &password, salt, count),
        _ => return Err(StoreError::Unsupported("the kind of its checksum")),
    };
    match is_right {
        true => Ok(()),
        false => Err(StoreError::Password),
    }
}

trait Hash: Digest + BlockSizeUser + FixedOutputReset + Clone {}
impl<H: Digest + BlockSizeUser + FixedOutputReset + Clone> Hash for H {}

fn is_mac<H: Hash>(expected: &[u8], data: &[u8], password: &[u8], salt: &[u8], count: u32) -> bool {
    let key = derive::<H>(3, password, salt, count, <H as Digest>::output_size());
    mac::<H>(&key)
        .chain_update(data)
        .verify_slice(expected)
        .is_ok()
}

fn mac<H: Hash>(key: &[u8]) -> SimpleHmac<H> {
    <SimpleHmac<H> as Mac>::new_from_slice(key).expect("HMAC takes keys of every length")
}

/// The password as PKCS #12 takes it: UTF-16 with a zero at its end.
fn utf16(password: &str) -> Vec<u8> {
    let units = password.encode_utf16().chain([0]);
    units.flat_map(u16::to_be_bytes).collect()
}

/// RFC 7292, appendix B.2: `length` bytes for the purpose `id`.
fn derive<H: Hash>(id: u8, password: &[u8], salt: &[u8], count: u32, length: usize) -> Vec<u8> {
    let block = H::block_size();
    let filled = |text: &[u8]| -> Vec<u8> {
        let length = text.len().div_ceil(block) * block;
        text.iter().copied().cycle().take(length).collect()
    };
    let mut input = filled(salt);
    input.extend(filled(password));
    let mut out = Vec::new();
    while out.len() < length {
        let mut hash = H::new()
            .chain_update(vec![id; block])
            .chain_update(&input)
            .finalize();
        for _ in 1..count {
            hash = H::digest(&hash);
        }
        out.extend_from_slice(&hash);
        for part in input.chunks_mut(block) {
            // part = part + hash repeated + 1, as one big number
            let mut carry = 1u16;
            for (at, byte) in part.iter_mut().enumerate().rev() {
                carry += u16::from(*byte) + u16::from(hash[at % hash.len()]);
                *byte = (carry & 0xff) as u8;
                carry >>= 8;
            }
        }
    }
    out.truncate(length);
    out
}

/// Decrypts what an `AlgorithmIdentifier` describes.
pub(super) fn decrypt(
    mut scheme: Der<'_>,
    data: &[u8],
    password: &str,
) -> Result<Vec<u8>, StoreError> {
    let oid = dotted(scheme.take(tag::OID)?)?;
    let mut parameters = scheme.inside(tag::SEQUENCE)?;
    if oid == "1.2.840.113549.1.5.13" {
        return decrypt_by_pbes2(parameters, data, password);
    }
    let salt = parameters.take(tag::OCTET_STRING)?;
    let count = rounds(&mut parameters)?;
    let password = utf16(password);
    let key = |length| derive::<Sha1>(1, &password, salt, count, length);
    let iv = derive::<Sha1>(2, &password, salt, count, 8);
    match oid.as_str() {
        "1.2.840.113549.1.12.1.3" => cbc::<cbc::Decryptor<TdesEde3>>(&key(24), &iv, data),
        "1.2.840.113549.1.12.1.5" => cbc::<cbc::Decryptor<Rc2>>(&key(16), &iv, data),
        "1.2.840.113549.1.12.1.6" => {
            let cipher = Rc2::new_with_eff_key_len(&key(5), 40);
            let opened = cbc::Decryptor::inner_iv_slice_init(cipher, &iv);
            let opened = opened.map_err(|_| StoreError::Damaged)?;
            let opened = opened.decrypt_padded_vec_mut::<Pkcs7>(data);
            opened.map_err(|_| StoreError::Password)
        }
        _ => Err(StoreError::Unsupported("its encryption")),
    }
}

fn cbc<D: BlockDecryptMut + KeyIvInit>(
    key: &[u8],
    iv: &[u8],
    data: &[u8],
) -> Result<Vec<u8>, StoreError> {
    let opened = D::new_from_slices(key, iv).map_err(|_| StoreError::Damaged)?;
    // A wrong password shows here, where there is no checksum.
    let opened = opened.decrypt_padded_vec_mut::<Pkcs7>(data);
    opened.map_err(|_| StoreError::Password)
}

fn decrypt_by_pbes2(
    mut parameters: Der<'_>,
    data: &[u8],
    password: &str,
) -> Result<Vec<u8>, StoreError> {
    let mut derivation = parameters.inside(tag::SEQUENCE)?;
    let mut cipher = parameters.inside(tag::SEQUENCE)?;
    if dotted(derivation.take(tag::OID)?)? != "1.2.840.113549.1.5.12" {
        return Err(StoreError::Unsupported(
            "how its key is made of the password",
        ));
    }
    let mut derivation = derivation.inside(tag::SEQUENCE)?;
    let salt = derivation.take(tag::OCTET_STRING)?;
    let count = rounds(&mut derivation)?;
    derivation.optional(tag::INTEGER)?;
    let hash = match derivation.optional(tag::SEQUENCE)? {
        Some(hash) => dotted(Der::new(hash).take(tag::OID)?)?,
        None => "1.2.840.113549.2.7".to_owned(),
    };
    let password = password.as_bytes();
    let key = |length| match hash.as_str() {
        "1.2.840.113549.2.7" => Ok(pbkdf2::<Sha1>(password, salt, count, length)),
        "1.2.840.113549.2.9" => Ok(pbkdf2::<Sha256>(password, salt, count, length)),
        "1.2.840.113549.2.10" => Ok(pbkdf2::<Sha384>(password, salt, count, length)),
        "1.2.840.113549.2.11" => Ok(pbkdf2::<Sha512>(password, salt, count, length)),
        _ => Err(StoreError::Unsupported(
            "how its key is made of the password",
        )),
    };
    let oid = dotted(cipher.take(tag::OID)?)?;
    let iv = cipher.take(tag::OCTET_STRING)?;
    match oid.as_str() {
        "2.16.840.1.101.3.4.1.2" => cbc::<cbc::Decryptor<Aes128>>(&key(16)?, iv, data),
        "2.16.840.1.101.3.4.1.22" => cbc::<cbc::Decryptor<Aes192>>(&key(24)?, iv, data),
        "2.16.840.1.101.3.4.1.42" => cbc::<cbc::Decryptor<Aes256>>(&key(32)?, iv, data),
        "1.2.840.113549.3.7" => cbc::<cbc::Decryptor<TdesEde3>>(&key(24)?, iv, data),
        _ => Err(StoreError::Unsupported("its encryption")),
    }
}

/// RFC 8018, section 5.2.
fn pbkdf2<H: Hash>(password: &[u8], salt: &[u8], count: u32, length: usize) -> Vec<u8> {
    let keyed = mac::<H>(password);
    let mut out = Vec::new();
    let mut index = 0u32;
    while out.len() < length {
        index += 1;
        let first = keyed
            .clone()
            .chain_update(salt)
            .chain_update(index.to_be_bytes());
        let mut round = first.finalize().into_bytes();
        let mut block = round.clone();
        for _ in 1..count {
            round = keyed.clone().chain_update(&round).finalize().into_bytes();
            block.iter_mut().zip(&round).for_each(|(a, b)| *a ^= b);
        }
        out.extend_from_slice(&block);
    }
    out.truncate(length);
    out
}
