//! Both ends over loopback, with the stores of `tests/golden/tls`.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::common::disk::real::RealDisk;
use crate::common::net::{self, HostPort};

const BOB: &str = "CN=bob,OU=a+OU=b,O=Example\\, Inc.,DC=org";
const LIMIT: Duration = Duration::from_secs(30);

fn store(name: &str) -> Option<Store> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tls");
    (!name.is_empty()).then(|| Store {
        path: dir.join(name),
        password: "changeit".to_owned(),
    })
}

fn settings(key: &str, trust: &str, versions: &[Version]) -> Settings {
    Settings {
        key_store: store(key),
        trust_store: store(trust),
        versions: versions.to_vec(),
        cipher_suites: Vec::new(),
    }
}

const BOTH: &[Version] = &[Version::Tls12, Version::Tls13];

/// What the server knows of the client when both have said a word, and heard one.
async fn meet(
    acceptor: &Acceptor,
    connector: &Connector,
    host: &str,
) -> io::Result<Option<String>> {
    let listener = net::bind(&HostPort::new("127.0.0.1", 0)).await?;
    let port = net::local_address(&listener)?.port();
    let server = async {
        let (stream, _) = listener.accept().await?;
        let (mut stream, name) = acceptor.accept(stream).await?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        stream.write_all(&word).await?;
        stream.shutdown().await?;
        assert_eq!(stream.read(&mut word).await?, 0);
        io::Result::Ok(name)
    };
    let client = async {
        let stream = net::connect(&HostPort::new("127.0.0.1", port), LIMIT).await?;
        let mut stream = connector.connect(host, stream).await?;
        stream.write_all(b"word").await?;
        stream.flush().await?;
        let mut word = Vec::new();
        stream.read_to_end(&mut word).await?;
        assert_eq!(word, b"word");
        stream.shutdown().await
    };
    let both = async { tokio::try_join!(server, client) };
    let (name, ()) = tokio::time::timeout(LIMIT, both).await??;
    Ok(name)
}

#[tokio::test]
async fn ends_that_trust_each_other_meet() {
    let own = |versions| settings("server.p12", "trust.p12", versions);
    for (server, auth, client, host, expected) in [
        (
            own(&BOTH[..1]),
            ClientAuth::Need,
            settings("client.p12", "ca.pem", BOTH),
            "localhost",
            Some(BOB),
        ),
        (
            own(BOTH),
            ClientAuth::Want,
            settings("legacy.p12", "ca.pem", BOTH),
            "127.0.0.1",
            Some(BOB),
        ),
        (
            own(&BOTH[1..]),
            ClientAuth::Need,
            settings("client-secret.pem", "trust.p12", BOTH),
            "localhost",
            Some(BOB),
        ),
        (
            own(BOTH),
            ClientAuth::Want,
            settings("", "trust.p12", BOTH),
            "localhost",
            None,
        ),
        (
            own(BOTH),
            ClientAuth::None,
            settings("client.pem", "trust.p12", BOTH),
            "localhost",
            None,
        ),
        // Trusted as they are: without a list of names, and called a CA.
        (
            settings("self.p12", "own.pem", BOTH),
            ClientAuth::Need,
            settings("own.pem", "self.p12", BOTH),
            "LOCALHOST",
            Some("CN=own"),
        ),
    ] {
        let acceptor = Acceptor::new(&RealDisk, &server, auth).expect("usable");
        let connector = Connector::new(&RealDisk, &client, true).expect("usable");
        let name = meet(&acceptor, &connector, host).await.expect("they meet");
        assert_eq!(name.as_deref(), expected, "{client:?}");
    }
}

#[tokio::test]
async fn ends_that_do_not_trust_each_other_part() {
    let own = || settings("server.p12", "trust.p12", BOTH);
    for (server, auth, client, host, checks_host) in [
        // Nobody's certificate, a stranger's, another host's name, a stranger's server, no common version.
        (
            own(),
            ClientAuth::Need,
            settings("", "ca.pem", BOTH),
            "localhost",
            true,
        ),
        (
            own(),
            ClientAuth::Want,
            settings("own.pem", "ca.pem", BOTH),
            "localhost",
            true,
        ),
        (
            own(),
            ClientAuth::None,
            settings("", "ca.pem", BOTH),
            "node1",
            true,
        ),
        (
            settings("self.p12", "", BOTH),
            ClientAuth::None,
            settings("", "self.p12", BOTH),
            "node1",
            true,
        ),
        (
            own(),
            ClientAuth::None,
            settings("", "own.pem", BOTH),
            "localhost",
            false,
        ),
        (
            settings("server.p12", "", &BOTH[..1]),
            ClientAuth::None,
            settings("", "ca.pem", &BOTH[1..]),
            "localhost",
            true,
        ),
    ] {
        let acceptor = Acceptor::new(&RealDisk, &server, auth).expect("usable");
        let connector = Connector::new(&RealDisk, &client, checks_host).expect("usable");
        let met = meet(&acceptor, &connector, host).await;
        assert!(met.is_err(), "{client:?} {host}");
    }
    let acceptor = Acceptor::new(&RealDisk, &own(), ClientAuth::None).expect("usable");
    let client = settings("", "ca.pem", BOTH);
    let connector = Connector::new(&RealDisk, &client, false).expect("usable");
    meet(&acceptor, &connector, "node1")
        .await
        .expect("names do not count");
}

#[test]
fn settings_that_cannot_work_are_told() {
    let acceptor = |key: &str, trust: &str, suite: &str| {
        let mut settings = settings(key, trust, BOTH);
        settings
            .cipher_suites
            .extend((!suite.is_empty()).then(|| suite.to_owned()));
        let made = Acceptor::new(&RealDisk, &settings, ClientAuth::Need);
        made.map(|_| ()).map_err(|error| error.to_string())
    };
    for (key, trust, suite, expected) in [
        ("", "trust.p12", "", "there is no key store"),
        ("server.p12", "", "", "there is no trust store"),
        ("trust.p12", "trust.p12", "", "no private key"),
        ("client.jks", "trust.p12", "", "keytool -importkeystore"),
        ("nothing.pem", "trust.p12", "", "No such file"),
        ("README", "trust.p12", "", "neither PEM nor PKCS #12"),
        (
            "server.p12",
            "trust.p12",
            "SSL_NULL",
            "TLS_AES_128_GCM_SHA256",
        ),
    ] {
        let error = acceptor(key, trust, suite).expect_err("not usable");
        assert!(error.contains(expected), "{error}");
    }
    let suite = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384";
    assert_eq!(acceptor("server.p12", "trust.p12", suite), Ok(()));
}
