//! Sessions: how they begin, move and end, and which of their writes count.

use crate::common::ids::SessionId;
use crate::coordinator::tree::op::{Done, Request};
use crate::coordinator::tree::tree::{Event, Session, Tree, Txn};
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::message::PASSWORD_BYTES;

impl Tree {
    /// Is this the next write of the session's present connection?
    pub(super) fn admit(&mut self, request: &Request) -> Result<(), ErrorCode> {
        let session = self
            .sessions
            .get_mut(&request.session)
            .ok_or(ErrorCode::SessionExpired)?;
        if session.connection != request.connection {
            return Err(ErrorCode::SessionMoved);
        }
        // A gap means that an earlier write was lost on its way: nothing behind it may take effect.
        if session.sequence.checked_add(1) != Some(request.sequence) {
            return Err(ErrorCode::ConnectionLoss);
        }
        session.sequence = request.sequence;
        Ok(())
    }

    pub(super) fn create_session(
        &mut self,
        request: &Request,
        password: [u8; PASSWORD_BYTES],
        timeout_ms: i32,
    ) -> Result<Done, ErrorCode> {
        if let Some(session) = self.sessions.get(&request.session) {
            // The same proposal once more is no error; another one with this id is.
            return if session.connection == request.connection && session.password == password {
                Ok(Done::Session(session.timeout_ms))
            } else {
                Err(ErrorCode::SessionExpired)
            };
        }
        let session = Session {
            password,
            timeout_ms,
            connection: request.connection,
            sequence: 0,
        };
        self.sessions.insert(request.session, session);
        Ok(Done::Session(timeout_ms))
    }

    pub(super) fn attach_session(
        &mut self,
        txn: &mut Txn<'_>,
        request: &Request,
        password: &[u8; PASSWORD_BYTES],
        timeout_ms: i32,
    ) -> Result<Done, ErrorCode> {
        let session = self
            .sessions
            .get_mut(&request.session)
            .filter(|session| session.password == *password)
            .ok_or(ErrorCode::SessionExpired)?;
        if session.connection != request.connection {
            session.connection = request.connection;
            session.sequence = 0;
            session.timeout_ms = timeout_ms;
            txn.events
                .push(Event::SessionMoved(request.session, request.connection));
        }
        Ok(Done::Session(timeout_ms))
    }

    pub(super) fn end_session(
        &mut self,
        txn: &mut Txn<'_>,
        session: SessionId,
    ) -> Result<Done, ErrorCode> {
        self.sessions
            .remove(&session)
            .ok_or(ErrorCode::SessionExpired)?;
        for path in self.ephemerals.remove(&session).unwrap_or_default() {
            self.remove(txn, &path);
        }
        txn.events.push(Event::SessionClosed(session));
        Ok(Done::Nothing)
    }
}
