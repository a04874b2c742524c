//! Which replica a consumer shall read from (KIP-392), as Kafka's `RackAwareReplicaSelector` chooses: the
//! leader if it stands in the consumer's rack, else the one there that is furthest, else the leader. Pure.

use crate::broker::image::Image;
use crate::broker::isr::Standing;
use crate::common::ids::BrokerId;

/// The follower to send a consumer in `rack` to; none where it is to read from the leader. `standings` are the
/// followers that have what the consumer asks for.
pub fn follower_for(
    rack: &str,
    leader: BrokerId,
    standings: &[Standing],
    listener: &str,
    image: &Image,
) -> Option<BrokerId> {
    let is_there = |id: &BrokerId| {
        image.brokers.get(id).is_some_and(|broker| {
            broker.rack.as_deref() == Some(rack) && broker.endpoints.contains_key(listener)
        })
    };
    if rack.is_empty() || is_there(&leader) {
        return None;
    }
    let there = standings.iter().filter(|one| is_there(&one.id));
    let best = there.max_by_key(|one| (one.log_end, one.caught_up_ms, std::cmp::Reverse(one.id)));
    best.map(|one| one.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::image::BrokerImage;
    use crate::broker::testing::live_at;
    use crate::common::ids::Offset;
    use crate::common::net::HostPort;

    fn image(racks: &[Option<&str>]) -> Image {
        let brokers = racks.iter().zip(0..).map(|(rack, id)| {
            let broker = BrokerImage {
                rack: rack.map(str::to_owned),
                ..live_at(BrokerId(id), HostPort::new("h", 1))
            };
            (BrokerId(id), broker)
        });
        Image {
            brokers: brokers.collect(),
            ..Image::default()
        }
    }

    fn standing(id: i32, log_end: i64, caught_up_ms: i64) -> Standing {
        Standing {
            id: BrokerId(id),
            log_end: Offset(log_end),
            caught_up_ms: Some(caught_up_ms),
        }
    }

    #[test]
    fn the_nearest_that_is_furthest() {
        let followers = [standing(1, 10, 5), standing(2, 12, 4), standing(3, 12, 6)];
        let choose = |rack: &str, racks: &[Option<&str>]| {
            follower_for(rack, BrokerId(0), &followers, "PLAINTEXT", &image(racks)).map(|id| id.0)
        };
        let all = [Some("a"), Some("b"), Some("b"), Some("b")];
        assert_eq!(choose("b", &all), Some(3), "as far as 2, and later in step");
        assert_eq!(choose("a", &all), None, "the leader's own rack");
        assert_eq!(choose("c", &all), None, "nobody there");
        assert_eq!(choose("", &all), None, "a consumer without a rack");
        assert_eq!(choose("b", &[Some("a"), Some("b"), None, None]), Some(1));
        assert_eq!(choose("b", &[Some("a"), None]), None, "dead or elsewhere");
        let image = image(&all);
        let other = follower_for("b", BrokerId(0), &followers, "INTERNAL", &image);
        assert_eq!(other, None, "not to be reached over that listener");
    }
}
