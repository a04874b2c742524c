//! TLS over the network seam, from key and trust stores as Java has them.
//!
//! rustls does the work, with `ring` beneath it. Certificates are judged as Java judges them where the two
//! differ and people rely on it: a certificate that is itself in the trust store is trusted, and a server
//! without a list of names may be known by its common name.

mod pkcs12;
mod store;
mod verify;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::common::disk::Disk;
use crate::common::net::TcpStream;
use crate::common::x500;
pub use store::StoreError;
use store::{Contents, Key};

/// The largest key or trust store.
const STORE_BYTES_MAX: u64 = 16 << 20;

/// A connection, with or without TLS.
#[derive(Debug)]
pub enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Behind a handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Stream {
        Stream::Plain(stream)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// A file with its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Store {
    /// Where it lies.
    pub path: PathBuf,
    /// Empty if there is none.
    pub password: String,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// The versions of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `TLSv1.2`
    Tls12,
    /// `TLSv1.3`
    Tls13,
}

impl Version {
    /// By Java's name.
    pub fn named(name: &str) -> Option<Version> {
        match name {
            "TLSv1.2" => Some(Version::Tls12),
            "TLSv1.3" => Some(Version::Tls13),
            _ => None,
        }
    }

    fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Version::Tls12 => &rustls::version::TLS12,
            Version::Tls13 => &rustls::version::TLS13,
        }
    }
}

/// What both ends say about themselves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who we are.
    pub key_store: Option<Store>,
    /// Whom we trust.
    pub trust_store: Option<Store>,
    /// At least one.
    pub versions: Vec<Version>,
    /// Java's names; empty for all that are good.
    pub cipher_suites: Vec<String>,
}

/// Whether a client has to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// It is not asked.
    None,
    /// It may.
    Want,
    /// It must.
    Need,
}

/// Why TLS cannot be spoken with these settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A store could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A store makes no sense.
    #[error("{}: {source}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// A store lacks what it is for.
    #[error("{}: there is no {what} in it", path.display())]
    Lacks {
        /// The file.
        path: PathBuf,
        /// A key, a certificate.
        what: &'static str,
    },
    /// A setting that has to be there.
    #[error("there is no {0}")]
    Missing(&'static str),
    /// A name that stands for nothing here.
    #[error("the cipher suite '{0}' is not known; those that are: {1}")]
    CipherSuite(String, String),
    /// The parts do not fit together.
    #[error(transparent)]
    Unusable(#[from] rustls::Error),
    /// What is trusted cannot be used for clients.
    #[error(transparent)]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Makes streams of what a listener accepts.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Acceptor {
    /// Reads the stores.
    pub fn new(
        disk: &dyn Disk,
        settings: &Settings,
        client_auth: ClientAuth,
    ) -> Result<Acceptor, TlsError> {
        let provider = Arc::new(provider(&settings.cipher_suites)?);
        let key = own_key(disk, settings)?.ok_or(TlsError::Missing("key store"))?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions(settings))?;
        let builder = match client_auth {
            ClientAuth::None => builder.with_no_client_auth(),
            ClientAuth::Want | ClientAuth::Need => {
                let (roots, exact) = trusted(disk, settings)?;
                let verifier =
                    verify::clients(roots, exact, client_auth == ClientAuth::Need, &provider)?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(key.chain, key.key)?;
        Ok(Acceptor(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands. Also says the name in the client's certificate, if it showed one that is trusted. The
    /// caller sets the limit of time.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(Stream, Option<String>)> {
        let stream = self.0.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let shown = shown.and_then(|chain| chain.first());
        let name = shown.map(|certificate| x500::certificate(certificate));
        let name = name.transpose().map_err(io::Error::other)?;
        let name = name.map(|certificate| certificate.subject);
        Ok((Stream::Tls(Box::new(TlsStream::Server(stream))), name))
    }
}

/// Makes streams of what was dialled.
#[derive(Clone)]
pub struct Connector(TlsConnector);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    /// Reads the stores.
    pub fn new(
        disk: &dyn Disk,
        settings: &Settings,
        checks_host: bool,
    ) -> Result<Connector, TlsError> {
        let provider = Arc::new(provider(&settings.cipher_suites)?);
        let (roots, exact) = trusted(disk, settings)?;
        let verifier = verify::servers(roots, exact, checks_host, &provider);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions(settings))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match own_key(disk, settings)? {
            Some(key) => builder.with_client_auth_cert(key.chain, key.key)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Connector(TlsConnector::from(Arc::new(config))))
    }

    /// Shakes hands with the server that was dialled as `host`. The caller sets the limit of time.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = self.0.connect(name, stream).await?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }
}

fn versions(settings: &Settings) -> Vec<&'static SupportedProtocolVersion> {
    let versions = settings.versions.iter();
    versions.map(|version| version.supported()).collect()
}

/// `ring`, with the cipher suites that were asked for.
fn provider(names: &[String]) -> Result<CryptoProvider, TlsError> {
    let mut provider = ring::default_provider();
    // rustls calls TLS13_x what Java calls TLS_x.
    let java = |name: String| name.replace("TLS13_", "TLS_");
    let known = provider.cipher_suites.iter().copied();
    let known = known.map(|suite| (java(format!("{:?}", suite.suite())), suite));
    let known: Vec<_> = known.collect();
    if names.is_empty() {
        return Ok(provider);
    }
    let mut chosen = Vec::new();
    for name in names {
        let Some((_, suite)) = known.iter().find(|(known, _)| known == name) else {
            let known: Vec<_> = known.iter().map(|(name, _)| name.as_str()).collect();
            return Err(TlsError::CipherSuite(name.clone(), known.join(", ")));
        };
        chosen.push(*suite);
    }
    provider.cipher_suites = chosen;
    Ok(provider)
}

fn open(disk: &dyn Disk, store: &Store) -> Result<Contents, TlsError> {
    let path = || store.path.clone();
    let bytes = disk.read(&store.path, STORE_BYTES_MAX);
    let bytes = bytes.map_err(|source| TlsError::Read {
        path: path(),
        source,
    })?;
    store::read(&bytes, &store.password).map_err(|source| TlsError::Store {
        path: path(),
        source,
    })
}

fn own_key(disk: &dyn Disk, settings: &Settings) -> Result<Option<Key>, TlsError> {
    let Some(store) = &settings.key_store else {
        return Ok(None);
    };
    let key = open(disk, store)?.keys.into_iter().next();
    key.map(Some).ok_or(TlsError::Lacks {
        path: store.path.clone(),
        what: "private key with its certificate",
    })
}

/// Whom to trust: by whom a certificate is signed, or as it is.
fn trusted(
    disk: &dyn Disk,
    settings: &Settings,
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let store = settings.trust_store.as_ref();
    let store = store.ok_or(TlsError::Missing("trust store"))?;
    let exact = open(disk, store)?.trusted;
    let mut roots = RootCertStore::empty();
    let (used, _) = roots.add_parsable_certificates(exact.iter().cloned());
    if used == 0 {
        return Err(TlsError::Lacks {
            path: store.path.clone(),
            what: "certificate to trust",
        });
    }
    Ok((roots, exact))
}

#[cfg(test)]
mod tests;
