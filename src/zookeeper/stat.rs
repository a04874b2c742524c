//! Stat: what a node says of itself besides its data. 68 bytes on the wire.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::common::ids::{SessionId, Zxid};
use crate::zookeeper::jute::{Jute, JuteError};

/// A node's versions, times and counts, as clients see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// The transaction that created the node.
    pub czxid: Zxid,
    /// The transaction that last changed its data.
    pub mzxid: Zxid,
    /// When it was created, ms since 1970.
    pub ctime_ms: i64,
    /// When its data last changed, ms since 1970.
    pub mtime_ms: i64,
    /// How often its data changed.
    pub version: i32,
    /// How often a child came or went.
    pub cversion: i32,
    /// How often its ACL changed.
    pub aversion: i32,
    /// The owner's session, 0 for a node that is not ephemeral.
    pub ephemeral_owner: SessionId,
    /// Bytes of data.
    pub data_length: i32,
    /// Direct children.
    pub num_children: i32,
    /// The transaction that last created or deleted a child.
    pub pzxid: Zxid,
}

impl Jute for Stat {
    fn encode(&self, out: &mut BytesMut) {
        self.czxid.0.encode(out);
        self.mzxid.0.encode(out);
        self.ctime_ms.encode(out);
        self.mtime_ms.encode(out);
        self.version.encode(out);
        self.cversion.encode(out);
        self.aversion.encode(out);
        self.ephemeral_owner.0.encode(out);
        self.data_length.encode(out);
        self.num_children.encode(out);
        self.pzxid.0.encode(out);
    }

    fn decode(input: &mut Bytes) -> Result<Stat, JuteError> {
        Ok(Stat {
            czxid: Zxid(i64::decode(input)?),
            mzxid: Zxid(i64::decode(input)?),
            ctime_ms: i64::decode(input)?,
            mtime_ms: i64::decode(input)?,
            version: i32::decode(input)?,
            cversion: i32::decode(input)?,
            aversion: i32::decode(input)?,
            ephemeral_owner: SessionId(i64::decode(input)?),
            data_length: i32::decode(input)?,
            num_children: i32::decode(input)?,
            pzxid: Zxid(i64::decode(input)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zookeeper::jute::to_bytes;

    #[test]
    fn is_68_bytes_and_reads_back() {
        let stat = Stat {
            czxid: Zxid(1),
            pzxid: Zxid(i64::MIN),
            version: -1,
            num_children: 7,
            ..Stat::default()
        };
        let mut bytes = to_bytes(&stat);
        assert_eq!(bytes.len(), 68);
        assert_eq!(Stat::decode(&mut bytes), Ok(stat));
    }
}
