//! ApiVersions (18): what this broker serves, straight from the table of routes.
//!
//! Versions 0-4. v3 adds the client's software name (checked) and features: none, as a Kafka 2.8 broker,
//! because finalized features are switches and nothing behind them is served. A version above 4 is
//! answered in the form of v0 with this API's own range. Produce is advertised from 0 although it is
//! served from 3: librdkafka decides by it whether compression is known (KAFKA-18659).

use bytes::{BufMut, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use super::{Chunk, Context, ROUTES, Route};
use crate::broker::Broker;

/// The route.
pub const ROUTE: Route = crate::route!(ApiVersions, ApiVersionsRequest, 0..=4, handle);

async fn handle(
    _broker: &Broker,
    context: &Context,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    let response = ApiVersionsResponse::default().with_finalized_features_epoch(
        // Kafka 2.8 keeps features in ZooKeeper under an epoch that begins with 0.
        if context.version >= 3 { 0 } else { -1 },
    );
    let named = context.version < 3
        || (legal(&request.client_software_name) && legal(&request.client_software_version));
    if !named {
        return response.with_error_code(ResponseError::InvalidRequest.code());
    }
    response.with_api_keys(advertised())
}

fn advertised() -> Vec<ApiVersion> {
    ROUTES
        .iter()
        .map(|route| {
            let min = if route.key == ApiKey::Produce as i16 {
                0
            } else {
                route.min
            };
            ApiVersion::default()
                .with_api_key(route.key)
                .with_min_version(min)
                .with_max_version(route.max)
        })
        .collect()
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`, as in Kafka's ApiVersionsRequest.
fn legal(name: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// The answer to a version that is not served, which every client can read.
pub fn unsupported() -> Chunk {
    let mut body = BytesMut::with_capacity(12);
    body.put_i16(ResponseError::UnsupportedVersion.code());
    body.put_i32(1);
    body.put_i16(ROUTE.key);
    body.put_i16(ROUTE.min);
    body.put_i16(ROUTE.max);
    Chunk::Bytes(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::protocol::Decodable;

    #[test]
    fn every_route_is_one_that_the_decoder_knows() {
        assert!(ROUTES.is_sorted_by(|one, two| one.key < two.key));
        for route in ROUTES {
            let key = ApiKey::try_from(route.key).expect(route.name);
            let known = key.valid_versions();
            assert!(
                known.min <= route.min && route.min <= route.max && route.max <= known.max,
                "{} {}..={}",
                route.name,
                route.min,
                route.max
            );
            assert_eq!(format!("{key:?}"), route.name);
        }
    }

    #[test]
    fn what_is_advertised_is_what_is_routed() {
        let advertised = advertised();
        assert_eq!(advertised.len(), ROUTES.len());
        for (api, route) in advertised.iter().zip(ROUTES) {
            assert_eq!((api.api_key, api.max_version), (route.key, route.max));
            let min = if route.name == "Produce" {
                0
            } else {
                route.min
            };
            assert_eq!(api.min_version, min, "{}", route.name);
        }
    }

    #[test]
    fn software_names_follow_kafkas_pattern() {
        for good in ["a", "apache-kafka-java", "2.8.0", "A.b-9"] {
            assert!(legal(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".a", "a b", "ä", "a_b"] {
            assert!(!legal(bad), "{bad}");
        }
    }

    #[test]
    fn the_fallback_reads_as_v0() {
        let Chunk::Bytes(mut bytes) = unsupported() else {
            panic!("bytes");
        };
        let response = ApiVersionsResponse::decode(&mut bytes, 0).expect("v0");
        assert_eq!(response.error_code, 35);
        assert_eq!(response.api_keys.len(), 1);
        assert_eq!(response.api_keys[0].api_key, 18);
        assert!(bytes.is_empty());
    }
}
