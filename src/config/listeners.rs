//! Listener lists: what to bind, what to tell clients, which one brokers use among themselves.
//!
//! Pure. Follows `kafka.cluster.EndPoint` and the rules of `KafkaConfig`; a trailing comma and empty
//! items are legal because .NET's Testcontainers writes them.

use std::collections::BTreeMap;
use std::fmt;

use crate::common::net::HostPort;
use crate::config::keys::BrokerConfig;
use crate::config::value::split_list;

/// The security protocols of Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecurityProtocol {
    /// Neither encryption nor authentication.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without TLS.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// Reads Kafka's name.
    pub fn parse(text: &str) -> Option<SecurityProtocol> {
        match text.to_ascii_uppercase().as_str() {
            "PLAINTEXT" => Some(SecurityProtocol::Plaintext),
            "SSL" => Some(SecurityProtocol::Ssl),
            "SASL_PLAINTEXT" => Some(SecurityProtocol::SaslPlaintext),
            "SASL_SSL" => Some(SecurityProtocol::SaslSsl),
            _ => None,
        }
    }

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }
}

/// One listener: `NAME://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name, upper case as Kafka keeps it.
    pub name: String,
    /// What is spoken on it.
    pub protocol: SecurityProtocol,
    /// Where; an empty host is every interface.
    pub address: HostPort,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.name, self.address)
    }
}

/// A broker's listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// What to bind, at least one.
    pub bound: Vec<Endpoint>,
    /// What to tell clients; each name is also bound.
    pub advertised: Vec<Endpoint>,
    /// The name of the listener that brokers use among themselves.
    pub inter_broker: String,
}

impl Listeners {
    /// Works out a broker's listeners. `hostname` stands in where a host is empty. All problems at once,
    /// each with the setting that it is about.
    pub fn resolve(
        broker: &BrokerConfig,
        hostname: &str,
    ) -> Result<Listeners, Vec<(&'static str, String)>> {
        let mut problems = Vec::new();
        let protocols = protocol_map(&broker.listener_security_protocol_map, &mut problems);
        let controllers = broker.controller_listener_names.as_deref();
        let controllers = split_list(controllers.unwrap_or_default());
        let mut parse = |key, text: &str| {
            let mut list = parse_list(key, text, &protocols, &mut problems);
            list.retain(|endpoint| !controllers.contains(&endpoint.name));
            list
        };
        let mut advertised = broker
            .advertised_listeners
            .as_deref()
            .map(|text| parse("advertised.listeners", text));
        let (bound, said) = match (&broker.listeners, &advertised) {
            (Some(text), _) => (parse("listeners", text), true),
            (None, Some(advertised)) => (on_every_interface(advertised), true),
            (None, None) => {
                let port = broker.port.to_string();
                let text = format!("PLAINTEXT://{}:{port}", broker.host_name);
                (parse("listeners", &text), !broker.host_name.is_empty())
            }
        };
        if bound.is_empty() && problems.is_empty() {
            problems.push(("listeners", "there is no listener for clients".to_owned()));
        }
        // As in Kafka, no host is this machine's name.
        for endpoint in advertised.iter_mut().flatten() {
            if endpoint.address.host.is_empty() {
                endpoint.address.host = hostname.to_owned();
            }
        }
        let advertised = advertised.unwrap_or_else(|| implied(broker, &bound, said, hostname));
        check_advertised(&bound, &advertised, &mut problems);
        let inter_broker = inter_broker(broker, &bound, &mut problems);
        if problems.is_empty() && !advertised.iter().any(|one| one.name == inter_broker) {
            let text = format!(
                "inter.broker.listener.name must be a listener name defined in advertised.listeners. \
                 The valid options based on currently configured listeners are {}",
                names(&advertised)
            );
            problems.push(("inter.broker.listener.name", text));
        }
        if problems.is_empty() {
            Ok(Listeners {
                bound,
                advertised,
                inter_broker,
            })
        } else {
            Err(problems)
        }
    }
}

type Problems = Vec<(&'static str, String)>;

fn protocol_map(text: &str, problems: &mut Problems) -> BTreeMap<String, SecurityProtocol> {
    let mut map = BTreeMap::new();
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        let parsed = item.split_once(':').and_then(|(name, protocol)| {
            Some((name.trim(), SecurityProtocol::parse(protocol.trim())?))
        });
        match parsed {
            Some((name, protocol)) => {
                map.insert(name.to_ascii_uppercase(), protocol);
            }
            None => problems.push((
                "listener.security.protocol.map",
                format!("'{item}' is not NAME:PROTOCOL with one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
            )),
        }
    }
    map
}

fn parse_list(
    key: &'static str,
    text: &str,
    protocols: &BTreeMap<String, SecurityProtocol>,
    problems: &mut Problems,
) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        match parse_endpoint(item, protocols) {
            Ok(endpoint) if endpoints.iter().any(|other| other.name == endpoint.name) => problems
                .push((
                    key,
                    format!(
                        "Each listener must have a different name: '{}' is there twice",
                        endpoint.name
                    ),
                )),
            Ok(endpoint) => endpoints.push(endpoint),
            Err(text) => problems.push((key, text)),
        }
    }
    endpoints
}

fn parse_endpoint(
    item: &str,
    protocols: &BTreeMap<String, SecurityProtocol>,
) -> Result<Endpoint, String> {
    let (name, address) = item
        .split_once("://")
        .ok_or_else(|| format!("'{item}' is not NAME://host:port"))?;
    let address = HostPort::parse(address, None)?;
    let name = name.to_ascii_uppercase();
    let protocol = *protocols.get(&name).ok_or_else(|| {
        format!("No security protocol defined for listener {name}: add it to listener.security.protocol.map")
    })?;
    if protocol != SecurityProtocol::Plaintext && !name.starts_with("CONTROLLER") {
        return Err(format!(
            "listener {name} asks for {}, which is not supported yet: only PLAINTEXT is",
            protocol.name()
        ));
    }
    Ok(Endpoint {
        name,
        protocol,
        address,
    })
}

fn on_every_interface(advertised: &[Endpoint]) -> Vec<Endpoint> {
    let everywhere = |endpoint: &Endpoint| Endpoint {
        address: HostPort::new("0.0.0.0", endpoint.address.port),
        ..endpoint.clone()
    };
    advertised.iter().map(everywhere).collect()
}

/// What to advertise when nobody says: the bound address; this machine's name where that says "all".
fn implied(broker: &BrokerConfig, bound: &[Endpoint], said: bool, hostname: &str) -> Vec<Endpoint> {
    let host = match &broker.advertised_host_name {
        // As in Kafka, no host is this machine's name.
        Some(host) if host.is_empty() => hostname,
        Some(host) => host.as_str(),
        None if said => hostname,
        None => "localhost",
    };
    bound
        .iter()
        .map(|endpoint| {
            let everywhere = matches!(endpoint.address.host.as_str(), "" | "0.0.0.0" | "::");
            let port = match broker.advertised_port {
                Some(port) => u16::try_from(port).unwrap_or(endpoint.address.port),
                None => endpoint.address.port,
            };
            let address = if everywhere || broker.advertised_host_name.is_some() {
                HostPort::new(host, port)
            } else {
                HostPort::new(endpoint.address.host.clone(), port)
            };
            Endpoint {
                address,
                ..endpoint.clone()
            }
        })
        .collect()
}

fn check_advertised(bound: &[Endpoint], advertised: &[Endpoint], problems: &mut Problems) {
    for endpoint in advertised {
        if matches!(endpoint.address.host.as_str(), "0.0.0.0" | "::") {
            problems.push((
                "advertised.listeners",
                format!(
                    "advertised.listeners cannot use the nonroutable meta-address {}. \
                     Use a routable IP address.",
                    endpoint.address.host
                ),
            ));
        }
        if !bound.is_empty() && !bound.iter().any(|other| other.name == endpoint.name) {
            problems.push((
                "advertised.listeners",
                format!(
                    "advertised.listeners listener names must be equal to or a subset of the ones \
                     defined in listeners. Found {}. The valid options based on the current \
                     configuration are {}",
                    endpoint.name,
                    names(bound)
                ),
            ));
        }
    }
}

fn names(endpoints: &[Endpoint]) -> String {
    let names: Vec<_> = endpoints.iter().map(|one| one.name.as_str()).collect();
    names.join(",")
}

fn inter_broker(broker: &BrokerConfig, bound: &[Endpoint], problems: &mut Problems) -> String {
    let protocol = broker.security_inter_broker_protocol.as_str();
    if protocol != SecurityProtocol::Plaintext.name() {
        problems.push((
            "security.inter.broker.protocol",
            format!("security.inter.broker.protocol asks for {protocol}, which is not supported yet: only PLAINTEXT is"),
        ));
        return String::new();
    }
    let name = match &broker.inter_broker_listener_name {
        Some(name) => name.to_ascii_uppercase(),
        None => broker.security_inter_broker_protocol.clone(),
    };
    if bound.iter().any(|endpoint| endpoint.name == name) {
        return name;
    }
    match (&broker.inter_broker_listener_name, bound) {
        (Some(_), [_, ..]) => problems.push((
            "inter.broker.listener.name",
            format!("inter.broker.listener.name must be a listener name defined in listeners: {name} is not"),
        )),
        // Kafka insists on a listener of the protocol's name; one listener needs no such rule.
        (None, [only]) => return only.name.clone(),
        (None, [_, ..]) => problems.push((
            "inter.broker.listener.name",
            format!("say inter.broker.listener.name: there is no listener named {name}"),
        )),
        (_, []) => {}
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::Values;

    fn resolve(change: impl FnOnce(&mut BrokerConfig)) -> Result<String, String> {
        let mut broker = BrokerConfig::take(&mut Values::default());
        change(&mut broker);
        let show = |list: &[Endpoint]| {
            let list: Vec<_> = list.iter().map(ToString::to_string).collect();
            list.join(",")
        };
        Listeners::resolve(&broker, "this-host")
            .map(|l| {
                format!(
                    "{} | {} | {}",
                    show(&l.bound),
                    show(&l.advertised),
                    l.inter_broker
                )
            })
            .map_err(|problems| {
                problems
                    .iter()
                    .map(|(key, text)| format!("{key}: {text}"))
                    .collect::<Vec<_>>()
                    .join("; ")
            })
    }

    #[test]
    fn listeners_are_resolved_as_kafka_does() {
        let ok = |expected: &str, change: fn(&mut BrokerConfig)| {
            assert_eq!(resolve(change).as_deref(), Ok(expected));
        };
        ok(
            "PLAINTEXT://:9092 | PLAINTEXT://localhost:9092 | PLAINTEXT",
            |_| {},
        );
        ok(
            "PLAINTEXT://:9092 | PLAINTEXT://this-host:9092 | PLAINTEXT",
            |b| {
                b.listeners = Some("PLAINTEXT://:9092".into());
            },
        );
        ok(
            "PLAINTEXT://node1:9092 | PLAINTEXT://node1:9092 | PLAINTEXT",
            |b| {
                b.listeners = Some("PLAINTEXT://node1:9092,".into());
            },
        );
        ok(
            "PLAINTEXT://0.0.0.0:19092 | PLAINTEXT://example:19092 | PLAINTEXT",
            |b| {
                b.advertised_listeners = Some("PLAINTEXT://example:19092".into());
            },
        );
        ok(
            "PLAINTEXT://0.0.0.0:9092,BROKER://0.0.0.0:9093,TC-0://kafka:19092 | \
             PLAINTEXT://localhost:32768,BROKER://abc:9093,TC-0://kafka:19092 | BROKER",
            |b| {
                b.listeners = Some("PLAINTEXT://0.0.0.0:9092,BROKER://0.0.0.0:9093,CONTROLLER://0.0.0.0:9094,TC-0://kafka:19092".into());
                b.advertised_listeners =
                    Some("PLAINTEXT://localhost:32768,BROKER://abc:9093,TC-0://kafka:19092".into());
                b.listener_security_protocol_map =
                    "BROKER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TC-0:PLAINTEXT"
                        .into();
                b.controller_listener_names = Some("CONTROLLER".into());
                b.inter_broker_listener_name = Some("BROKER".into());
            },
        );
    }

    #[test]
    fn what_cannot_be_is_said_by_name() {
        let wrong = |expected: &str, change: fn(&mut BrokerConfig)| {
            let text = resolve(change).expect_err(expected);
            assert!(text.contains(expected), "{text}");
        };
        wrong(
            "listener SASL_SSL asks for SASL_SSL, which is not supported yet",
            |b| {
                b.listeners = Some("SASL_SSL://:9092".into());
            },
        );
        wrong("No security protocol defined for listener FOO", |b| {
            b.listeners = Some("FOO://:9092".into());
        });
        wrong(
            "advertised.listeners: advertised.listeners cannot use the nonroutable",
            |b| {
                b.advertised_listeners = Some("PLAINTEXT://0.0.0.0:9092".into());
            },
        );
        wrong("must be equal to or a subset", |b| {
            b.listeners = Some("PLAINTEXT://:9092".into());
            b.advertised_listeners = Some("A://x:1".into());
            b.listener_security_protocol_map = "A:PLAINTEXT,PLAINTEXT:PLAINTEXT".into();
        });
        wrong("is no port", |b| {
            b.listeners = Some("PLAINTEXT://:99999".into())
        });
        wrong("different name", |b| {
            b.listeners = Some("PLAINTEXT://:1,PLAINTEXT://:2".into());
        });
        wrong("there is no listener named PLAINTEXT", |b| {
            b.listeners = Some("A://:1,B://:2".into());
            b.listener_security_protocol_map = "A:PLAINTEXT,B:PLAINTEXT".into();
        });
    }
}
