//! Who a connection is: its address, and what its client proves by the schemes digest, sasl and x509.
//!
//! Decides and keeps; what is answered on the wire, and when, is `connection`'s business. What the
//! identities allow is `tree::check`'s, which is the same on every member; what this member was told in its
//! configuration stays here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tracing::{debug, info};

use crate::common::rng::Rng;
use crate::coordinator::server::Client;
use crate::coordinator::tree::check;
use crate::coordinator::tree::op::{Change, Op};
use crate::zookeeper::acl::{Acl, Id};
use crate::zookeeper::digest_md5::{self, Step};
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::jute::{Jute, put_frame};
use crate::zookeeper::message::{AuthRequest, put_header};

/// Identities that one connection may prove.
const IDENTITIES_MAX: usize = 64;

/// Who may log in by SASL, and how.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Users(pub BTreeMap<String, String>);

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What this member was told about authentication.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The id of the super user (`DigestAuthenticationProvider.superDigest`), `super:hash`.
    pub super_digest: Option<String>,
    /// The users of SASL, from the JAAS file; `None` where SASL is not spoken.
    pub users: Option<Users>,
    /// Do ids of the scheme sasl count (`authProvider.N=…SASLAuthenticationProvider`)?
    pub has_sasl: bool,
    /// Do ids of the scheme x509 count (`authProvider.N=…X509AuthenticationProvider`, `secureClientPort`)?
    pub has_x509: bool,
    /// Is a session without SASL of no use (`sessionRequireClientSASLAuth`)?
    pub requires_sasl: bool,
    /// May a client go on that failed (`allowSaslFailedClients`)?
    pub keeps_failed: bool,
    /// The SASL user who may do everything (`superUser`).
    pub sasl_super: Option<String>,
    /// The same by the name in a certificate (`X509AuthenticationProvider.superUser`).
    pub x509_super: Option<String>,
    /// May everybody do everything (`skipACL`)?
    pub skip_acl: bool,
}

/// What is answered to an attempt to prove something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Why it failed; the connection ends then.
    pub error: Option<ErrorCode>,
    /// The record behind the header, if there is one: a token, or null.
    pub record: Option<Option<Bytes>>,
}

impl Answer {
    /// To everything that a client says that had to prove itself by SASL first.
    pub fn needs_sasl() -> Answer {
        Answer::of(Some(ErrorCode::SessionClosedRequireSaslAuth))
    }

    /// Appends the whole reply.
    pub fn put(&self, out: &mut BytesMut, xid: i32) {
        put_frame(out, |out| {
            put_header(out, xid, 0, self.error.map_or(0, ErrorCode::code));
            if let Some(record) = &self.record {
                record.encode(out);
            }
        });
    }

    fn of(error: Option<ErrorCode>) -> Answer {
        Answer {
            error,
            record: None,
        }
    }
}

/// One connection's identities.
#[derive(Debug)]
pub struct Identity {
    ids: Arc<[Id]>,
    sasl: digest_md5::Server,
    is_sasl_proved: bool,
}

impl Identity {
    /// Of a client that said nothing yet: its address, and the name in its certificate.
    pub fn new(client: &Client, options: &Options) -> Identity {
        let address = client.peer.ip().to_canonical();
        let mut ids = vec![Id::new("ip", address.to_string())];
        if let Some(name) = client.name.as_deref().filter(|_| options.has_x509) {
            if options.x509_super.as_deref() == Some(name) {
                ids.push(Id::new("super", name));
            }
            ids.push(Id::new("x509", name));
        }
        if options.skip_acl {
            ids.push(Id::new("super", ""));
        }
        Identity {
            ids: ids.into(),
            sasl: digest_md5::Server::default(),
            is_sasl_proved: false,
        }
    }

    /// All that is known or proved.
    pub fn ids(&self) -> &Arc<[Id]> {
        &self.ids
    }

    /// Does the client have to prove itself by SASL before anything else?
    pub fn lacks_sasl(&self, options: &Options) -> bool {
        options.requires_sasl && !self.is_sasl_proved
    }

    /// Takes an auth packet.
    pub fn authenticate(&mut self, options: &Options, record: &AuthRequest) -> Answer {
        let proved = match record.scheme.as_str() {
            // Null is no proof, not an empty one.
            "digest" => record.auth.as_ref().map(check::digest_id),
            // Known without proof; asking for them changes nothing.
            "ip" => return Answer::of(None),
            "x509" if self.ids.iter().any(|id| id.scheme == "x509") => return Answer::of(None),
            _ => None,
        };
        let Some(id) = proved.filter(|_| self.ids.len() < IDENTITIES_MAX) else {
            return Answer::of(Some(ErrorCode::AuthFailed));
        };
        let is_super = options.super_digest.as_deref() == Some(id.as_str());
        self.add(Id::new("digest", id), is_super);
        Answer::of(None)
    }

    /// Takes a SASL packet.
    pub fn exchange(&mut self, options: &Options, rng: &Rng, token: &[u8]) -> Answer {
        // ZooKeeper without SASL answers every token with null, and goes on.
        let Some(users) = &options.users else {
            return Answer {
                error: None,
                record: Some(None),
            };
        };
        let password = |user: &str| users.0.get(user).cloned();
        let step = self.sasl.evaluate(token, |bytes| rng.fill(bytes), password);
        let token = match step {
            Ok(Step::Challenge(token)) => Some(token),
            Ok(Step::Proved { user, token }) => {
                debug!(?user, "a client proved itself by SASL");
                self.is_sasl_proved = true;
                let is_super = options.sasl_super.as_deref() == Some(user.as_str());
                // Where no provider knows the scheme, its ids say nothing.
                if options.has_sasl {
                    self.add(Id::new("sasl", user), is_super);
                } else if is_super {
                    self.push(Id::new("super", ""));
                }
                Some(token)
            }
            Err(error) => {
                info!(%error, "a client failed to prove itself by SASL");
                if !options.keeps_failed || options.requires_sasl {
                    let error = match options.requires_sasl {
                        true => ErrorCode::SessionClosedRequireSaslAuth,
                        false => ErrorCode::AuthFailed,
                    };
                    return Answer {
                        error: Some(error),
                        record: Some(None),
                    };
                }
                None
            }
        };
        Answer {
            error: None,
            record: Some(token.map(Bytes::from)),
        }
    }

    fn add(&mut self, id: Id, is_super: bool) {
        if is_super {
            self.push(Id::new("super", ""));
        }
        self.push(id);
    }

    fn push(&mut self, id: Id) {
        if !self.ids.contains(&id) {
            self.ids = self.ids.iter().cloned().chain([id]).collect();
        }
    }
}

/// Takes the scheme off ACL lines that no provider of this member knows, so that they are refused in their
/// turn. Apply cannot do it: it decides alike on every member, and does not know this one's settings.
pub fn withhold(op: &mut Op, options: &Options) {
    if options.has_sasl && options.has_x509 {
        return;
    }
    let changes = match op {
        Op::Change(change) => std::slice::from_mut(change),
        Op::Multi(changes) => changes.as_mut_slice(),
        _ => return,
    };
    for change in changes {
        if let Change::Create { acl, .. }
        | Change::CreateTtl { acl, .. }
        | Change::SetAcl { acl, .. } = change
        {
            let unknown = |line: &&mut Acl| match line.id.scheme.as_str() {
                "sasl" => !options.has_sasl,
                "x509" => !options.has_x509,
                _ => false,
            };
            acl.iter_mut()
                .filter(unknown)
                .for_each(|line| line.id.scheme.clear());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zookeeper::acl::ALL;

    fn known(certificate: Option<&str>, options: &Options) -> Identity {
        let client = Client {
            peer: ([127, 0, 0, 1], 1).into(),
            name: certificate.map(str::to_owned),
        };
        Identity::new(&client, options)
    }

    fn options() -> Options {
        let users = [("bob", "bobsecret"), ("root", "rootsecret")];
        let users = users.map(|(name, password)| (name.to_owned(), password.to_owned()));
        Options {
            users: Some(Users(BTreeMap::from(users))),
            has_sasl: true,
            sasl_super: Some("root".to_owned()),
            super_digest: Some("super:xQJmxLMiHGwaqBvst5y6rkB6HQs=".to_owned()),
            x509_super: Some("CN=root".to_owned()),
            ..Options::default()
        }
    }

    fn schemes(identity: &Identity) -> Vec<String> {
        let shown = |id: &Id| format!("{}:{}", id.scheme, id.id);
        identity.ids().iter().map(shown).collect()
    }

    /// The whole exchange, as a client that knows `password` has it.
    fn log_in(identity: &mut Identity, options: &Options, user: &str, password: &str) -> Answer {
        let rng = Rng::from_seed(1);
        let challenge = identity.exchange(options, &rng, b"");
        assert_eq!(challenge.error, None);
        let challenge = challenge.record.flatten().expect("a challenge");
        let (_, token) =
            digest_md5::Client::respond(&challenge, user, password, |bytes| rng.fill(bytes))
                .expect("legal");
        identity.exchange(options, &rng, &token)
    }

    #[test]
    fn sasl_proves_a_user_once() {
        let options = options();
        let mut identity = known(None, &options);
        let answer = log_in(&mut identity, &options, "bob", "bobsecret");
        assert_eq!(answer.error, None);
        let token = answer.record.flatten().expect("a proof");
        assert!(token.starts_with(b"rspauth="));
        assert_eq!(schemes(&identity), ["ip:127.0.0.1", "sasl:bob"]);
        let again = identity.exchange(&options, &Rng::from_seed(1), b"");
        assert_eq!(again.error, Some(ErrorCode::AuthFailed));
        let mut identity = known(None, &options);
        log_in(&mut identity, &options, "root", "rootsecret");
        assert_eq!(schemes(&identity), ["ip:127.0.0.1", "super:", "sasl:root"]);
    }

    #[test]
    fn who_fails_ends_unless_the_settings_are_mild() {
        let null = Some(None);
        for (requires_sasl, keeps_failed, error) in [
            (false, false, Some(ErrorCode::AuthFailed)),
            (false, true, None),
            (true, false, Some(ErrorCode::SessionClosedRequireSaslAuth)),
            (true, true, Some(ErrorCode::SessionClosedRequireSaslAuth)),
        ] {
            let options = Options {
                requires_sasl,
                keeps_failed,
                ..options()
            };
            let mut identity = known(None, &options);
            assert_eq!(identity.lacks_sasl(&options), requires_sasl);
            let answer = log_in(&mut identity, &options, "bob", "guess");
            let record = null.clone();
            assert_eq!(answer, Answer { error, record });
            assert_eq!(schemes(&identity), ["ip:127.0.0.1"]);
            assert_eq!(identity.lacks_sasl(&options), requires_sasl);
        }
        // Not configured: a null token, whatever comes.
        let options = Options::default();
        let mut identity = known(None, &options);
        for token in [&b""[..], b"x", b"username=\"bob\""] {
            let answer = identity.exchange(&options, &Rng::from_seed(1), token);
            let record = null.clone();
            assert_eq!(
                answer,
                Answer {
                    error: None,
                    record
                }
            );
        }
    }

    #[test]
    fn auth_packets_and_certificates_prove_what_they_are_for() {
        let mut options = options();
        let packet = |scheme: &str, auth: Option<&'static [u8]>| AuthRequest {
            kind: 0,
            scheme: scheme.to_owned(),
            auth: auth.map(Bytes::from_static),
        };
        let failed = Some(ErrorCode::AuthFailed);
        for (certificate, scheme, auth, error) in [
            (None, "digest", Some(&b"u:p"[..]), None),
            (None, "digest", Some(b"\xff"), None),
            (None, "digest", None, failed),
            (None, "ip", None, None),
            (None, "x509", None, failed),
            (Some("CN=bob"), "x509", None, None),
            (Some("CN=bob"), "sasl", Some(b"bob"), failed),
            (None, "world", Some(b"anyone"), failed),
            (None, "", None, failed),
        ] {
            options.has_x509 = true;
            let mut identity = known(certificate, &options);
            let answer = identity.authenticate(&options, &packet(scheme, auth));
            assert_eq!(answer, Answer::of(error), "{scheme} {auth:?}");
        }
        let mut identity = known(Some("CN=root"), &options);
        assert_eq!(schemes(&identity)[1..], ["super:CN=root", "x509:CN=root"]);
        identity.authenticate(&options, &packet("digest", Some(b"super:admin")));
        assert_eq!(
            schemes(&identity)[3..],
            ["super:", "digest:super:xQJmxLMiHGwaqBvst5y6rkB6HQs="]
        );
        options.has_x509 = false;
        let identity = known(Some("CN=root"), &options);
        assert_eq!(schemes(&identity), ["ip:127.0.0.1"]);
    }

    #[test]
    fn schemes_without_a_provider_are_withheld() {
        let line = |scheme: &str| Acl {
            perms: ALL,
            id: Id::new(scheme, "bob"),
        };
        let change = || Change::SetAcl {
            path: "/a".into(),
            acl: vec![line("sasl"), line("x509"), line("digest")],
            version: -1,
        };
        for (has_sasl, has_x509, expected) in [
            (false, false, ["", "", "digest"]),
            (true, false, ["sasl", "", "digest"]),
            (true, true, ["sasl", "x509", "digest"]),
        ] {
            let options = Options {
                has_sasl,
                has_x509,
                ..Options::default()
            };
            for mut op in [Op::Change(change()), Op::Multi(vec![change(), change()])] {
                withhold(&mut op, &options);
                let changes = match op {
                    Op::Change(change) => vec![change],
                    Op::Multi(changes) => changes,
                    other => panic!("{other:?}"),
                };
                for change in changes {
                    let Change::SetAcl { acl, .. } = change else {
                        panic!("{change:?}")
                    };
                    let schemes: Vec<_> = acl.iter().map(|line| &line.id.scheme[..]).collect();
                    assert_eq!(schemes, expected);
                }
            }
        }
    }
}
