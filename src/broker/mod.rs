//! A Kafka broker whose cluster metadata lives in ZooKeeper, in the layout of Kafka 2.8.
//!
//! [`Broker`] is a struct of handles, not of logic: each handle owns one kind of state. A request goes
//! connection → [`api`] → the noun it concerns. What the cluster looks like is read from the
//! [`image`]; changes are written to ZooKeeper through [`cluster`], and come back as a new image,
//! which [`reconcile`] turns into leading and letting go. Nobody pushes metadata to a broker.

use std::sync::Arc;

use crate::broker::cluster::Cluster;
use crate::broker::group::Groups;
use crate::broker::image::ImageCell;
use crate::broker::metrics::BrokerMetrics;
use crate::broker::replicas::Replicas;
use crate::common::clock::Clock;
use crate::common::ids::BrokerId;
use crate::common::rng::Rng;
use crate::common::tasks::Tasks;
use crate::config::Config;

pub mod api;
pub mod cluster;
pub mod connection;
pub mod controller;
pub mod fetch_session;
pub mod group;
pub mod image;
pub mod listener;
pub mod metrics;
pub mod partition;
pub mod registration;
pub mod replicas;
pub mod status;
#[cfg(test)]
pub mod testing;
pub mod wait;

/// What every part of a running broker can reach. Shared as `Arc<Broker>`.
#[derive(Debug)]
pub struct Broker {
    /// This broker's id.
    pub id: BrokerId,
    /// The cluster's id, as in `/cluster/id`.
    pub cluster_id: String,
    /// Settings as they were resolved at the start.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// Random values: member ids, producer choices.
    pub rng: Rng,
    /// Every task of this broker.
    pub tasks: Tasks,
    /// The cluster as this broker knows it now.
    pub image: Arc<ImageCell>,
    /// The partitions that this broker leads or follows.
    pub replicas: Arc<Replicas>,
    /// The consumer groups that this broker coordinates.
    pub groups: Arc<Groups>,
    /// Changes to the cluster's metadata.
    pub cluster: Arc<Cluster>,
    /// What this broker counts.
    pub metrics: Arc<BrokerMetrics>,
}
