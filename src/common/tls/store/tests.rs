//! Stores as keytool 17 and openssl 3 write them; `tests/golden/tls/README` says how they were made.

use super::*;
use crate::common::x500;

const PASSWORD: &str = "changeit";

macro_rules! golden {
    ($name:literal) => {
        &include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/tls/",
            $name
        ))[..]
    };
}

fn names(certificates: &[CertificateDer<'_>]) -> Vec<String> {
    let read = certificates.iter().map(|der| x500::certificate(der));
    read.map(|read| read.expect("whole").subject).collect()
}

const BOB: &str = "CN=bob,OU=a+OU=b,O=Example\\, Inc.,DC=org";
const CA: &str = "CN=Test CA,O=Example\\, Inc.";

#[test]
fn keys_come_with_their_chains() {
    let server = "CN=localhost,O=Example";
    for (bytes, chain, trusted) in [
        (golden!("server.p12"), &[server, CA][..], &[CA, server][..]),
        (golden!("client.p12"), &[BOB, CA], &[BOB]),
        (golden!("legacy.p12"), &[BOB, CA], &[BOB]),
        (golden!("client.pem"), &[BOB, CA], &[CA, BOB]),
        (golden!("client-secret.pem"), &[BOB, CA], &[CA, BOB]),
        (golden!("self.p12"), &["CN=localhost"], &["CN=localhost"]),
        (golden!("own.pem"), &["CN=own"], &["CN=own"]),
        (golden!("trust.p12"), &[], &[CA]),
        (golden!("trust-openssl.p12"), &[], &[CA]),
        (golden!("ca.pem"), &[], &[CA]),
    ] {
        let contents = read(bytes, PASSWORD).expect("legal");
        let chains: Vec<_> = contents.keys.iter().map(|key| names(&key.chain)).collect();
        match chain {
            [] => assert!(chains.is_empty(), "{chains:?}"),
            _ => assert_eq!(chains, [chain]),
        }
        let mut found = names(&contents.trusted);
        found.sort();
        assert_eq!(found, trusted);
    }
}

#[test]
fn what_cannot_be_opened_is_told() {
    for (bytes, password, expected) in [
        (golden!("server.p12"), "guess", StoreError::Password),
        (golden!("legacy.p12"), "", StoreError::Password),
        (golden!("client-secret.pem"), "guess", StoreError::Password),
        (golden!("client.jks"), PASSWORD, StoreError::Jks),
        (b"hello", PASSWORD, StoreError::Unknown),
        (b"", PASSWORD, StoreError::Unknown),
        (b"\xff\xff", PASSWORD, StoreError::Unknown),
        (b"0\x05hello", PASSWORD, StoreError::Damaged),
        (
            b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
            PASSWORD,
            StoreError::Damaged,
        ),
    ] {
        assert_eq!(read(bytes, password).map(|_| ()), Err(expected));
    }
}

/// The checksum takes thousands of rounds, so not every byte is tried.
#[test]
fn damage_is_noticed_and_ends_in_no_panic() {
    let good = golden!("legacy.p12");
    for at in (0..good.len()).step_by(61) {
        assert!(read(&good[..at], PASSWORD).is_err(), "cut at {at}");
        let mut bad = good.to_vec();
        bad[at] ^= 0x10;
        assert!(read(&bad, PASSWORD).is_err(), "byte {at}");
    }
}
