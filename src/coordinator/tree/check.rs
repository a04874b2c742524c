//! The rules that a change must pass: ACLs, versions, paths. Pure.

use bytes::Bytes;
use sha1::{Digest, Sha1};

use crate::common::x500;
use crate::zookeeper::acl::{Acl, Id};
use crate::zookeeper::error::ErrorCode;

/// Schemes by which a client proves who it is.
const PROVED: [&str; 3] = ["digest", "sasl", "x509"];

/// Does `acl` give one of the permissions in `perms` to somebody with these identities?
pub fn permitted(acl: &[Acl], perms: i32, auth: &[Id]) -> Result<(), ErrorCode> {
    // An empty list restricts nothing, and the super user is never refused (ZooKeeperServer.checkACL).
    if acl.is_empty() || auth.iter().any(|id| id.scheme == "super") {
        return Ok(());
    }
    let given = acl.iter().any(|line| {
        line.perms & perms != 0
            && (is_world(&line.id) || auth.iter().any(|id| matches(id, &line.id)))
    });
    if given {
        Ok(())
    } else {
        Err(ErrorCode::NoAuth)
    }
}

fn is_world(id: &Id) -> bool {
    id.scheme == "world" && id.id == "anyone"
}

fn matches(have: &Id, wanted: &Id) -> bool {
    have.scheme == wanted.scheme
        && match wanted.scheme.as_str() {
            "ip" => address_within(&have.id, &wanted.id),
            // SASLAuthenticationProvider lets this one name stand for every other.
            "sasl" => have.id == "super" || have.id == wanted.id,
            _ => have.id == wanted.id,
        }
}

/// Checks an ACL as a client gave it and puts the connection's identities in place of `auth` lines
/// (`PrepRequestProcessor.fixupACL`).
pub fn resolve_acl(asked: &[Acl], auth: &[Id]) -> Result<Vec<Acl>, ErrorCode> {
    let mut resolved: Vec<Acl> = Vec::new();
    for (at, line) in asked.iter().enumerate() {
        // Only what was asked twice is dropped: what `auth` stands for may come again.
        if asked[..at].contains(line) {
            continue;
        }
        let id = line.id.id.as_str();
        let is_valid = match line.id.scheme.as_str() {
            "world" => id == "anyone",
            "auth" => {
                // Addresses are known, not proved; they do not count here.
                let proved = auth
                    .iter()
                    .filter(|id| PROVED.contains(&id.scheme.as_str()));
                let before = resolved.len();
                resolved.extend(proved.map(|id| Acl {
                    perms: line.perms,
                    id: id.clone(),
                }));
                if resolved.len() == before {
                    return Err(ErrorCode::InvalidAcl);
                }
                continue;
            }
            "digest" => valid_digest(id),
            "ip" => parse_address(id).is_some(),
            "sasl" => valid_principal(id),
            "x509" => x500::is_name(id),
            _ => false,
        };
        if !is_valid {
            return Err(ErrorCode::InvalidAcl);
        }
        resolved.push(line.clone());
    }
    if resolved.is_empty() {
        return Err(ErrorCode::InvalidAcl);
    }
    Ok(resolved)
}

/// Two parts, as Java splits: it passes over empty ones at the end.
fn valid_digest(id: &str) -> bool {
    id.trim_end_matches(':').split(':').count() == 2
}

/// `service`, or a name of Kerberos: `service[/host]@realm` (`KerberosName`).
fn valid_principal(id: &str) -> bool {
    let Some((name, realm)) = id.split_once('@') else {
        return true;
    };
    !realm.contains(['/', '@']) && name.matches('/').count() <= 1
}

/// The id of `user:password` under the digest scheme: `user:base64(sha1(user:password))`.
pub fn digest_id(user_and_password: &Bytes) -> String {
    let text = String::from_utf8_lossy(user_and_password);
    let (user, _) = text.split_once(':').unwrap_or((&text, ""));
    format!("{user}:{}", base64(&Sha1::digest(text.as_bytes())))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let value = group
            .iter()
            .fold(0u32, |value, byte| (value << 8) | u32::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            if place <= group.len() {
                let six = (value >> (18 - 6 * place)) & 0x3f;
                text.push(char::from(ALPHABET[six as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// `address` or `address/bits` as bytes and the number of bits that count.
fn parse_address(text: &str) -> Option<(Vec<u8>, usize)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let bytes = match address.parse().ok()? {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let bits = match bits {
        Some(bits) => bits.parse().ok().filter(|bits| *bits <= bytes.len() * 8)?,
        None => bytes.len() * 8,
    };
    Some((bytes, bits))
}

fn address_within(have: &str, wanted: &str) -> bool {
    let (Some((have, _)), Some((wanted, bits))) = (parse_address(have), parse_address(wanted))
    else {
        return false;
    };
    have.len() == wanted.len()
        && (0..bits).all(|bit| {
            let mask = 0x80_u8 >> (bit % 8);
            have[bit / 8] & mask == wanted[bit / 8] & mask
        })
}

/// Is `have` the version that was asked for? −1 asks for any.
pub fn version(have: i32, wanted: i32) -> Result<(), ErrorCode> {
    if wanted == -1 || wanted == have {
        Ok(())
    } else {
        Err(ErrorCode::BadVersion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zookeeper::acl::{ADMIN, ALL, READ, WRITE};

    fn line(perms: i32, scheme: &str, id: &str) -> Acl {
        Acl {
            perms,
            id: Id::new(scheme, id),
        }
    }

    #[test]
    fn digest_ids_are_zookeepers() {
        assert_eq!(
            digest_id(&Bytes::from_static(b"u:p")),
            "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="
        );
        assert_eq!(base64(b"a"), "YQ==");
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(base64(b""), "");
    }

    #[test]
    fn permissions() {
        let user = [Id::new("digest", "u:h"), Id::new("ip", "10.1.2.3")];
        let bob = [Id::new("sasl", "bob")];
        let any = [Id::new("sasl", "super"), Id::new("x509", "CN=eve")];
        for (acl, perms, auth, expected) in [
            (vec![line(ALL, "world", "anyone")], READ, &[][..], true),
            (vec![line(READ, "world", "anyone")], WRITE, &user[..], false),
            (
                vec![line(WRITE, "world", "anyone")],
                READ | WRITE,
                &[],
                true,
            ),
            (vec![line(ALL, "digest", "u:h")], ADMIN, &user, true),
            (vec![line(ALL, "digest", "v:h")], ADMIN, &user, false),
            (vec![line(ALL, "ip", "10.1.0.0/16")], READ, &user, true),
            (vec![line(ALL, "ip", "10.2.0.0/16")], READ, &user, false),
            (vec![line(ALL, "ip", "10.1.2.3")], READ, &user, true),
            (vec![line(ALL, "sasl", "bob")], READ, &bob, true),
            (vec![line(ALL, "sasl", "eve")], READ, &bob, false),
            (vec![line(ALL, "digest", "bob")], READ, &bob, false),
            (vec![line(ALL, "sasl", "bob")], ADMIN, &any, true),
            (vec![line(ALL, "x509", "CN=bob")], ADMIN, &any, false),
            (vec![line(ALL, "x509", "CN=eve")], ADMIN, &any, true),
            (vec![], READ, &[], true),
            (
                vec![line(ALL, "digest", "v:h")],
                READ,
                &[Id::new("super", "")],
                true,
            ),
        ] {
            assert_eq!(
                permitted(&acl, perms, auth).is_ok(),
                expected,
                "{acl:?} {auth:?}"
            );
        }
    }

    #[test]
    fn acls_are_resolved_or_refused() {
        let user = [Id::new("ip", "10.1.2.3"), Id::new("digest", "u:h")];
        let proved = [
            Id::new("super", ""),
            Id::new("sasl", "bob"),
            Id::new("x509", "CN=bob"),
        ];
        for (asked, auth, expected) in [
            (vec![], &[][..], None),
            (Acl::open(), &[], Some(Acl::open())),
            (vec![line(ALL, "auth", "")], &user[..1], None),
            (
                vec![line(ALL, "auth", "")],
                &user,
                Some(vec![line(ALL, "digest", "u:h")]),
            ),
            (vec![line(ALL, "world", "me")], &[], None),
            (vec![line(ALL, "digest", "nohash")], &[], None),
            (vec![line(ALL, "digest", "u:")], &[], None),
            (
                vec![line(ALL, "digest", "u:h::")],
                &[],
                Some(vec![line(ALL, "digest", "u:h::")]),
            ),
            (
                vec![line(ALL, "auth", ""), line(ALL, "digest", "u:h")],
                &user,
                Some(vec![line(ALL, "digest", "u:h"), line(ALL, "digest", "u:h")]),
            ),
            (
                vec![line(1, "auth", "anything")],
                &proved,
                Some(vec![line(1, "sasl", "bob"), line(1, "x509", "CN=bob")]),
            ),
            (
                vec![line(ALL, "sasl", "bob"), line(1, "x509", "CN=bob,O=x")],
                &[],
                Some(vec![
                    line(ALL, "sasl", "bob"),
                    line(1, "x509", "CN=bob,O=x"),
                ]),
            ),
            (
                vec![line(ALL, "sasl", "kafka/host@REALM")],
                &[],
                Some(vec![line(ALL, "sasl", "kafka/host@REALM")]),
            ),
            (vec![line(ALL, "sasl", "kafka/host/x@REALM")], &[], None),
            (vec![line(ALL, "sasl", "kafka@REALM@REALM")], &[], None),
            (vec![line(ALL, "x509", "bob")], &[], None),
            (vec![line(ALL, "super", "")], &[], None),
            (vec![line(ALL, "", "bob")], &[], None),
            (vec![line(ALL, "ip", "10.0.0.0/33")], &[], None),
            (
                vec![line(1, "ip", "::1"), line(1, "ip", "::1")],
                &[],
                Some(vec![line(1, "ip", "::1")]),
            ),
        ] {
            let resolved = resolve_acl(&asked, auth);
            assert_eq!(resolved, expected.ok_or(ErrorCode::InvalidAcl), "{asked:?}");
        }
    }
}
