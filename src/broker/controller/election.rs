//! Taking the controller's office, exactly as Kafka 2.8 does: one multi creates `/controller` and counts
//! `/controller_epoch` up, and the version of the latter fences whoever held the office before.

use tracing::{info, warn};

use crate::broker::image::znode;
use crate::client::zookeeper::{Error, Mode, MultiError, Op, ZooKeeper};
use crate::common::ids::{BrokerId, ControllerEpoch, SessionId};
use crate::zookeeper::error::ErrorCode;

/// An office that was won, and holds as long as the version of `/controller_epoch` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// This controller's number.
    pub epoch: ControllerEpoch,
    /// The version of `/controller_epoch` to check in front of every write.
    pub version: i32,
    /// The session that owns `/controller`.
    pub session: SessionId,
}

/// Runs for the office; none when another broker has it. `known` is the last epoch that could be read,
/// for the case that somebody spoiled the znode.
pub async fn elect(
    zookeeper: &ZooKeeper,
    id: BrokerId,
    known: ControllerEpoch,
    now_ms: i64,
) -> Result<Option<Term>, Error> {
    loop {
        let Some(session) = zookeeper.session() else {
            return Err(Error::ConnectionLoss);
        };
        let (epoch, version) = last_epoch(zookeeper, known).await?;
        let next = ControllerEpoch(epoch.0.saturating_add(1));
        let steps = vec![
            Op::Create {
                path: znode::CONTROLLER.to_owned(),
                data: Some(znode::encode_controller(id, now_ms)),
                mode: Mode::Ephemeral,
            },
            Op::Set {
                path: znode::CONTROLLER_EPOCH.to_owned(),
                data: next.to_string().into_bytes(),
                version,
            },
        ];
        match zookeeper.multi(steps).await {
            Ok(stats) => {
                let version = stats.first().ok_or(Error::Malformed)?.version;
                info!(broker = %id, epoch = %next, "elected as the controller");
                return Ok(Some(Term {
                    epoch: next,
                    version,
                    session,
                }));
            }
            Err(MultiError { error, .. }) if error.is(ErrorCode::NodeExists) => {}
            // Somebody else counted up; look again.
            Err(MultiError { error, .. }) if error.is(ErrorCode::BadVersion) => continue,
            Err(MultiError { error, .. }) => return Err(error),
        }
        let (data, stat) = match zookeeper.get(znode::CONTROLLER).await {
            Ok(found) => found,
            Err(error) if error.is(ErrorCode::NoNode) => continue,
            Err(error) => return Err(error),
        };
        if znode::decode_controller(&data) != Ok(id) {
            return Ok(None);
        }
        if stat.ephemeral_owner == session {
            // Won before, by a multi whose answer was lost.
            return Ok(Some(Term {
                epoch,
                version,
                session,
            }));
        }
        // Only we register under our id, so this is our own dead session's.
        match zookeeper.delete(znode::CONTROLLER, stat.version).await {
            Ok(()) | Err(Error::Code(ErrorCode::NoNode | ErrorCode::BadVersion)) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn last_epoch(
    zookeeper: &ZooKeeper,
    known: ControllerEpoch,
) -> Result<(ControllerEpoch, i32), Error> {
    loop {
        match zookeeper.get(znode::CONTROLLER_EPOCH).await {
            Ok((data, stat)) => {
                let epoch = znode::decode_controller_epoch(&data).unwrap_or_else(|_| {
                    warn!("/controller_epoch is malformed and will be written anew");
                    known
                });
                return Ok((epoch, stat.version));
            }
            Err(error) if error.is(ErrorCode::NoNode) => {
                let first = (znode::CONTROLLER_EPOCH, Some(b"0".to_vec()));
                zookeeper.create_absent([first]).await?;
            }
            Err(error) => return Err(error),
        }
    }
}
