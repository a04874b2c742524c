//! Key stores and trust stores: files with private keys, their certificates, and certificates to trust.
//!
//! PEM and PKCS #12 are told apart by their first bytes, not by a setting or the file's name: what `keytool`
//! writes under the name `x.jks` today is PKCS #12. Pure.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::pkcs12;
use crate::common::der::{Der, dotted, tag, written};
use crate::common::x500;

/// A private key and its certificates, the own one first.
#[derive(Debug)]
pub struct Key {
    /// Never shown.
    pub key: PrivateKeyDer<'static>,
    /// Each is signed by the next.
    pub chain: Vec<CertificateDer<'static>>,
}

/// What a store holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// Those that have a certificate.
    pub keys: Vec<Key>,
    /// Whom to trust.
    pub trusted: Vec<CertificateDer<'static>>,
}

/// Why a store cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Neither of the forms that are read.
    #[error("it is neither PEM nor PKCS #12")]
    Unknown,
    /// Java's older form.
    #[error(
        "it is a JKS key store, which is not read here; convert it: keytool -importkeystore \
         -srckeystore FILE -destkeystore FILE.p12 -deststoretype PKCS12"
    )]
    Jks,
    /// Another password, or bytes that changed.
    #[error("it cannot be opened with this password, or is damaged")]
    Password,
    /// Something in it cannot be read.
    #[error("it is damaged")]
    Damaged,
    /// Legal, but not known here.
    #[error("it uses what is not supported: {0}")]
    Unsupported(&'static str),
}

/// Opens a store.
pub fn read(bytes: &[u8], password: &str) -> Result<Contents, StoreError> {
    let mut contents = match bytes {
        // JKS, and JCEKS.
        [0xfe, 0xed, 0xfe, 0xed, ..] | [0xce, 0xce, 0xce, 0xce, ..] => return Err(StoreError::Jks),
        [tag::SEQUENCE, ..] => pkcs12::read(bytes, password)?,
        _ => pem(bytes, password)?,
    };
    for key in &mut contents.keys {
        key.complete()?;
    }
    Ok(contents)
}

impl Key {
    /// Java leaves the public half out of an elliptic curve's key; `ring` wants it. The certificate has it.
    fn complete(&mut self) -> Result<(), StoreError> {
        const ELLIPTIC: &str = "1.2.840.10045.2.1";
        let (PrivateKeyDer::Pkcs8(whole), Some(own)) = (&self.key, self.chain.first()) else {
            return Ok(());
        };
        let mut info = Der::new(whole.secret_pkcs8_der()).inside(tag::SEQUENCE)?;
        info.number()?;
        let kind = info.any()?;
        if dotted(Der::new(kind.content).take(tag::OID)?)? != ELLIPTIC {
            return Ok(());
        }
        let mut key = Der::new(info.take(tag::OCTET_STRING)?).inside(tag::SEQUENCE)?;
        key.number()?;
        let secret = key.take(tag::OCTET_STRING)?;
        key.optional(tag::context(0))?;
        if key.peek() == Some(tag::context(1)) {
            return Ok(());
        }
        let public = [&[0], x500::public_key(own)?].concat();
        let parts = [
            written(tag::INTEGER, &[1]),
            written(tag::OCTET_STRING, secret),
            written(tag::context(1), &written(tag::BIT_STRING, &public)),
        ];
        let parts = [
            written(tag::INTEGER, &[0]),
            kind.whole.to_vec(),
            written(tag::OCTET_STRING, &written(tag::SEQUENCE, &parts.concat())),
        ];
        let whole = written(tag::SEQUENCE, &parts.concat());
        self.key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(whole));
        Ok(())
    }
}

fn pem(bytes: &[u8], password: &str) -> Result<Contents, StoreError> {
    let text = std::str::from_utf8(bytes).map_err(|_| StoreError::Unknown)?;
    if !text.contains("-----BEGIN ") {
        return Err(StoreError::Unknown);
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let certificates = certificates.map_err(|_| StoreError::Damaged)?;
    let key = match encrypted_key(text)? {
        Some(info) => {
            let mut info = Der::new(&info).inside(tag::SEQUENCE)?;
            let scheme = info.inside(tag::SEQUENCE)?;
            let key = pkcs12::decrypt(scheme, info.take(tag::OCTET_STRING)?, password)?;
            Some(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)))
        }
        None => {
            let mut keys = PrivateKeyDer::pem_slice_iter(bytes);
            keys.next().transpose().map_err(|_| StoreError::Damaged)?
        }
    };
    let keys = key.filter(|_| !certificates.is_empty()).map(|key| Key {
        key,
        chain: certificates.clone(),
    });
    Ok(Contents {
        keys: keys.into_iter().collect(),
        trusted: certificates,
    })
}

/// The bytes of a private key that has a password.
fn encrypted_key(text: &str) -> Result<Option<Vec<u8>>, StoreError> {
    const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let Some((_, rest)) = text.split_once(BEGIN) else {
        return Ok(None);
    };
    let (body, _) = rest.split_once(END).ok_or(StoreError::Damaged)?;
    let digits = body.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let digits = digits.filter(|byte| *byte != b'=').map(|byte| {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(StoreError::Damaged),
        };
        Ok(u32::from(value))
    });
    let digits: Vec<u32> = digits.collect::<Result<_, _>>()?;
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let value =
            group.iter().fold(0, |value, digit| value << 6 | digit) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&value.to_be_bytes()[1..group.len()]);
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
