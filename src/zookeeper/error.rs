//! ZooKeeper's error codes as one enum (`KeeperException.Code`).

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal),* $(,)?) => {
        /// An answer that is not a success.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(into = "i32", from = "i32")]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// A code that this table does not hold.
            Other(i32),
        }

        impl ErrorCode {
            /// The number on the wire.
            pub fn code(self) -> i32 {
                match self {
                    $(ErrorCode::$name => $code,)*
                    ErrorCode::Other(code) => code,
                }
            }

            /// The error of a number on the wire; `None` for 0, which is success.
            pub fn from_code(code: i32) -> Option<ErrorCode> {
                match code {
                    0 => None,
                    $($code => Some(ErrorCode::$name),)*
                    other => Some(ErrorCode::Other(other)),
                }
            }
        }
    };
}

codes! {
    /// Something broke inside the server.
    SystemError = -1,
    /// A part of a multi after the one that failed.
    RuntimeInconsistency = -2,
    /// Data does not fit together.
    DataInconsistency = -3,
    /// The connection is gone; whether the operation happened is unknown.
    ConnectionLoss = -4,
    /// Bytes that are no request.
    MarshallingError = -5,
    /// An operation that the server does not have.
    Unimplemented = -6,
    /// The operation took too long.
    OperationTimeout = -7,
    /// Arguments that make no sense: a bad path, bad flags.
    BadArguments = -8,
    /// The new configuration has no quorum.
    NewConfigNoQuorum = -13,
    /// Another reconfiguration runs.
    ReconfigInProgress = -14,
    /// No such node.
    NoNode = -101,
    /// The ACL forbids it.
    NoAuth = -102,
    /// Another version than the expected one.
    BadVersion = -103,
    /// Ephemerals have no children.
    NoChildrenForEphemerals = -108,
    /// The node is there already.
    NodeExists = -110,
    /// The node has children.
    NotEmpty = -111,
    /// The session is over.
    SessionExpired = -112,
    /// A callback that is none.
    InvalidCallback = -113,
    /// An ACL that is empty or has an unknown scheme.
    InvalidAcl = -114,
    /// Authentication failed.
    AuthFailed = -115,
    /// The session lives on another connection now.
    SessionMoved = -118,
    /// A write on a read-only server.
    NotReadOnly = -119,
    /// Ephemerals need a global session.
    EphemeralOnLocalSession = -120,
    /// There is no such watch to remove.
    NoWatcher = -121,
    /// The request timed out.
    RequestTimeout = -122,
    /// Reconfiguration is switched off.
    ReconfigDisabled = -123,
    /// SASL is required.
    SessionClosedRequireSaslAuth = -124,
}

impl From<ErrorCode> for i32 {
    fn from(error: ErrorCode) -> i32 {
        error.code()
    }
}

impl From<i32> for ErrorCode {
    fn from(code: i32) -> ErrorCode {
        ErrorCode::from_code(code).unwrap_or(ErrorCode::Other(code))
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?} ({})", self.code())
    }
}

impl std::error::Error for ErrorCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree_both_ways() {
        for (code, error) in [
            (-101, ErrorCode::NoNode),
            (-103, ErrorCode::BadVersion),
            (-2, ErrorCode::RuntimeInconsistency),
            (-6, ErrorCode::Unimplemented),
            (-999, ErrorCode::Other(-999)),
        ] {
            assert_eq!(error.code(), code);
            assert_eq!(ErrorCode::from_code(code), Some(error));
        }
        assert_eq!(ErrorCode::from_code(0), None);
    }
}
