//! `kafka-topics --zookeeper`: the same over znodes, as the tool of 2.8 wrote them itself.

use super::java_args::Options;
use super::topics::{Failure, illegal};
use crate::client::World;

/// Runs the command against the ensemble at `servers`.
pub(super) async fn execute(
    _world: &World,
    servers: &str,
    _options: &Options,
) -> Result<(), Failure> {
    Err(illegal(format!(
        "--zookeeper {servers} is not supported yet"
    )))
}
