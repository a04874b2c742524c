//! The names and passwords of a JAAS file, as far as this node's halves need them. Reads the file, and
//! nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::jaas::{self, DIGEST_MODULE, Module};
use crate::config::load;
use crate::config::raw::{Problem, SourceKind, Values, cut};
use crate::config::resolve::blame;
use crate::config::value::Password;
use crate::config::{CoordinatorConfig, NodeConfig, Roles};

/// Where the file is named.
const JAAS: &str = "node.java.security.auth.login.config";
/// In front of the names of ZooKeeper's users.
const USER_PREFIX: &str = "user_";
/// The user whose password may be said elsewhere.
const SUPER: &str = "super";

/// Who may log in, and as whom this node does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logins {
    /// The users of the coordinator's SASL; `None` where it is not spoken.
    pub users: Option<BTreeMap<String, Password>>,
}

/// Reads what the settings name; what is wrong with it is noted.
pub(super) fn read(
    values: &mut Values,
    roles: Roles,
    node: &NodeConfig,
    coordinator: &CoordinatorConfig,
) -> Logins {
    let mut logins = Logins::default();
    if let Some(path) = &node.jaas
        && roles.coordinator
    {
        match sections(path) {
            Ok(sections) => {
                let section = sections.get(&coordinator.sasl_section);
                logins.users = section.and_then(|modules| users(values, coordinator, modules));
            }
            Err(text) => blame(values, JAAS, format!("{}: {text}", cut(path))),
        }
    }
    if roles.coordinator {
        rules(values, coordinator, &logins);
    }
    logins
}

fn sections(path: &str) -> Result<jaas::Sections, String> {
    // Two equal signs mean to Java that no other file counts.
    let path = path.strip_prefix('=').unwrap_or(path);
    let path = path.strip_prefix("file:").unwrap_or(path);
    jaas::parse(&load::read(Path::new(path))?)
}

fn users(
    values: &mut Values,
    coordinator: &CoordinatorConfig,
    modules: &[Module],
) -> Option<BTreeMap<String, Password>> {
    let mut users = BTreeMap::new();
    for module in modules {
        if module.class != DIGEST_MODULE {
            let text = format!(
                "section {}: {} is not supported, only {DIGEST_MODULE} is",
                cut(&coordinator.sasl_section),
                cut(&module.class)
            );
            blame(values, JAAS, text);
            return None;
        }
        for (name, value) in &module.options {
            if let Some(user) = name.strip_prefix(USER_PREFIX) {
                users.insert(user.to_owned(), Password::new(value));
            }
        }
    }
    if coordinator.sasl_super_password.expose().is_some()
        && let Some(known) = users.get_mut(SUPER)
    {
        *known = coordinator.sasl_super_password.clone();
    }
    Some(users)
}

/// What cannot work together.
fn rules(values: &mut Values, coordinator: &CoordinatorConfig, logins: &Logins) {
    let users = logins.users.as_ref();
    let has_super = users.is_some_and(|users| users.contains_key(SUPER));
    if users.is_none() && coordinator.requires_sasl {
        let text = "sessionRequireClientSASLAuth turns every client away: there are no users, as the JAAS \
                    file's section Server names them (java.security.auth.login.config)";
        blame(values, "coordinator.sessionRequireClientSASLAuth", text);
    }
    let password = values.said("coordinator.SASLAuthenticationProvider.superPassword");
    if let Some(said) = password
        && !has_super
        && said.origin.kind != SourceKind::Implied
    {
        let text = "SASLAuthenticationProvider.superPassword has no effect: the JAAS file names no user_super";
        let warning = Problem::at(&said.origin, text);
        values.warnings.push(warning);
    }
}
