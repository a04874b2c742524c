//! Notices at once that another broker's process is gone, instead of at the end of its session.
//!
//! The controller holds an idle connection to every live broker, every other broker one to the controller.
//! While it is open, that broker is known to live for more reasons than its registration ([`Reached`]).
//! One that was open, closes, and is then *refused*, twice, tells that nobody listens there any more: the
//! entry of that registration is removed, and the office if the same session held it. Everything
//! else (timeouts, unreachable hosts, a port that never answered) says nothing; the session decides
//! then. A live broker that was wronged registers again by itself.
//!
//! A registration that is older than our own may be left from a crash that took both brokers. It needs
//! not have answered: an address that only ever refuses, some times, is taken for a dead one's, too.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tracing::{debug, info};

use crate::broker::Broker;
use crate::broker::image::{Image, znode};
use crate::client::zookeeper::{Error, Op};
use crate::common::ids::{BrokerId, Zxid};
use crate::common::net::{self, HostPort, TcpStream};
use crate::common::shutdown::Shutdown;
use crate::common::tasks::Kind;

/// For one TCP handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// So long a peer whose machine fell silent passes for one that is there.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);
/// For one that only shows that somebody is there.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// Between two refusals: a listener that was replaced in between is no dead process.
const SECOND_LOOK: Duration = Duration::from_millis(30);
/// Before a connection is tried again that failed for another reason.
const PAUSE: Duration = Duration::from_secs(1);
/// So often a leftover's address refuses, with that pause, before it is given up.
const LEFTOVER_REFUSALS: u32 = 3;

/// The brokers to which a connection is open, and which registration of theirs it was opened for.
pub type Reached = BTreeMap<BrokerId, Zxid>;

/// One registration of another broker.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Peer {
    id: BrokerId,
    epoch: Zxid,
    address: HostPort,
    /// It was there before our own registration.
    leftover: bool,
}

/// Whom this broker watches.
fn wanted(image: &Image, own: BrokerId, listener: &str) -> Vec<Peer> {
    let governs = image.controller == Some(own);
    let own_epoch = image.brokers.get(&own).map(|own| own.epoch);
    let others = image
        .brokers
        .values()
        .filter(|broker| broker.id != own && (governs || image.controller == Some(broker.id)));
    let peers = others.filter_map(|broker| {
        Some(Peer {
            id: broker.id,
            epoch: broker.epoch,
            address: broker.endpoints.get(listener)?.clone(),
            leftover: own_epoch.is_some_and(|own| broker.epoch < own),
        })
    });
    peers.collect()
}

/// Watches until the shutdown.
pub async fn run(broker: Arc<Broker>, shutdown: Shutdown) {
    let mut changes = broker.image.changes();
    let mut watched: BTreeMap<BrokerId, (Peer, Shutdown)> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let listener = &broker.config.listeners.inter_broker;
        let peers = wanted(&broker.image.load(), broker.id, listener);
        watched.retain(|_, (peer, stop)| {
            let stays = peers.contains(peer);
            if !stays {
                stop.stop();
            }
            stays
        });
        for peer in peers {
            watched.entry(peer.id).or_insert_with(|| {
                let stop = shutdown.child();
                let watching = watch(broker.clone(), peer.clone(), stop.clone());
                broker.tasks.spawn("peer watch", Kind::Connection, watching);
                (peer, stop)
            });
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = shutdown.stopped() => return,
        }
    }
}

/// The brokers that are there for more reasons than their registration, this one included: they accept a
/// connection now.
pub async fn answering(broker: &Broker) -> BTreeSet<BrokerId> {
    let image = broker.image.load();
    let listener = &broker.config.listeners.inter_broker;
    let mut asked = tokio::task::JoinSet::new();
    for other in image.brokers.values().filter(|other| other.id != broker.id) {
        if let Some(address) = other.endpoints.get(listener).cloned() {
            let id = other.id;
            asked.spawn(async move { net::connect(&address, ASK_LIMIT).await.ok().map(|_| id) });
        }
    }
    let mut answered = BTreeSet::from([broker.id]);
    while let Some(answer) = asked.join_next().await {
        answered.extend(answer.ok().flatten());
    }
    answered
}

async fn watch(broker: Arc<Broker>, peer: Peer, stop: Shutdown) {
    let told = |open| tell(&broker, &peer, open);
    let gone = tokio::select! {
        () = until_gone(&peer.address, peer.leftover, told) => true,
        () = stop.stopped() => false,
    };
    tell(&broker, &peer, false);
    if !gone {
        return;
    }
    info!(peer = %peer.id, address = %peer.address, "its process is gone: removing its registration");
    let removed = tokio::select! {
        removed = remove(&broker, &peer) => removed,
        () = stop.stopped() => return,
    };
    if let Err(error) = removed {
        debug!(peer = %peer.id, %error, "its registration stays until its session ends");
    }
}

/// Is a connection to it open?
fn tell(broker: &Broker, peer: &Peer, open: bool) {
    broker.reached.send_if_modified(|reached| {
        if open {
            return reached.insert(peer.id, peer.epoch) != Some(peer.epoch);
        }
        // The watch of its next registration may have begun.
        let ours = reached.get(&peer.id) == Some(&peer.epoch);
        ours && reached.remove(&peer.id).is_some()
    });
}

/// Returns when an address that was open once refuses connections, or a leftover's does all the time.
async fn until_gone(address: &HostPort, leftover: bool, told: impl Fn(bool)) {
    let mut was_there = false;
    let mut refusals = 0;
    loop {
        match net::connect(address, CONNECT_LIMIT).await {
            Ok(stream) => {
                if let Err(error) = net::keep_alive(&stream, Some(SILENCE_LIMIT)) {
                    debug!(%error, "a machine that falls silent will be noticed late");
                }
                was_there = true;
                told(true);
                closed(stream).await;
                told(false);
                // It closes what is idle, or has too many: not again at once.
                tokio::time::sleep(SECOND_LOOK).await;
            }
            Err(error) if was_there && error.kind() == io::ErrorKind::ConnectionRefused => {
                tokio::time::sleep(SECOND_LOOK).await;
                if refused(address).await {
                    return;
                }
            }
            Err(error) => {
                let refused = error.kind() == io::ErrorKind::ConnectionRefused;
                refusals = if refused { refusals + 1 } else { 0 };
                if leftover && refusals >= LEFTOVER_REFUSALS {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Waits until the other end is gone. Nothing is ever said on this connection.
async fn closed(mut stream: TcpStream) {
    let mut byte = [0];
    while let Ok(1..) = stream.read(&mut byte).await {}
}

async fn refused(address: &HostPort) -> bool {
    let answer = net::connect(address, CONNECT_LIMIT).await;
    answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Removes that registration and no other.
async fn remove(broker: &Broker, peer: &Peer) -> Result<(), Error> {
    let zookeeper = broker.cluster.zookeeper();
    let path = znode::broker_path(peer.id);
    let Some(stat) = zookeeper.exists(&path).await? else {
        return Ok(());
    };
    if stat.czxid != peer.epoch {
        return Ok(());
    }
    let mut steps = vec![Op::Delete {
        path,
        version: stat.version,
    }];
    let office = zookeeper.exists(znode::CONTROLLER).await?;
    if let Some(office) = office.filter(|office| office.ephemeral_owner == stat.ephemeral_owner) {
        steps.push(Op::Delete {
            path: znode::CONTROLLER.to_owned(),
            version: office.version,
        });
    }
    let removed = zookeeper.multi(steps).await;
    removed.map(|_| ()).map_err(|refused| refused.error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::testing;

    #[test]
    fn the_controller_watches_all_and_all_watch_the_controller() {
        let mut image = testing::image(vec![]);
        for id in [2, 3] {
            let mut other = image.brokers[&BrokerId(1)].clone();
            other.id = BrokerId(id);
            image.brokers.insert(other.id, other);
        }
        let seen = |image: &Image, own: i32| -> Vec<i32> {
            let peers = wanted(image, BrokerId(own), "PLAINTEXT");
            peers.iter().map(|peer| peer.id.0).collect()
        };
        assert_eq!(seen(&image, 1), [2, 3]);
        assert_eq!(seen(&image, 2), [1]);
        image.controller = None;
        assert_eq!(seen(&image, 2), Vec::<i32>::new());
    }

    #[tokio::test]
    async fn gone_is_who_was_there_and_refuses() {
        let listener = net::bind(&HostPort::new("127.0.0.1", 0)).await.unwrap();
        let at = net::local_address(&listener).unwrap();
        let address = HostPort::new("127.0.0.1", at.port());
        let gone = until_gone(&address, false, |_| {});
        tokio::pin!(gone);
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            () = &mut gone => panic!("it is there"),
        };
        // A closed connection alone says nothing: it comes again.
        drop(accepted);
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            () = &mut gone => panic!("it is there"),
        };
        drop(listener);
        drop(accepted);
        let limit = Duration::from_secs(10);
        assert!(tokio::time::timeout(limit, gone).await.is_ok());
    }

    #[test]
    fn what_was_registered_before_us_may_be_a_leftover() {
        let mut image = testing::image(vec![]);
        for (id, epoch) in [(1, 5), (2, 4), (3, 6)] {
            let mut other = image.brokers[&BrokerId(1)].clone();
            (other.id, other.epoch) = (BrokerId(id), Zxid(epoch));
            image.brokers.insert(other.id, other);
        }
        let peers = wanted(&image, BrokerId(1), "PLAINTEXT");
        let leftovers: Vec<_> = peers
            .iter()
            .map(|peer| (peer.id.0, peer.leftover))
            .collect();
        assert_eq!(leftovers, [(2, true), (3, false)]);
    }

    #[tokio::test]
    async fn an_address_that_never_answered_is_a_leftovers_or_says_nothing() {
        let listener = net::bind(&HostPort::new("127.0.0.1", 0)).await.unwrap();
        let port = net::local_address(&listener).unwrap().port();
        drop(listener);
        let address = HostPort::new("127.0.0.1", port);
        let told = |_| panic!("nobody is there");
        let limit = PAUSE * (LEFTOVER_REFUSALS + 1);
        let (leftover, other) = tokio::join!(
            tokio::time::timeout(limit, until_gone(&address, true, told)),
            tokio::time::timeout(limit, until_gone(&address, false, told)),
        );
        assert!(leftover.is_ok());
        assert!(other.is_err());
    }
}
