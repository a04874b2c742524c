//! ZooKeeper's records, requests and responses of every operation.

use bytes::{Buf, Bytes, BytesMut};
use tripod::zookeeper::message::{Request, Response};

use super::Fuzz;

const OPERATIONS: &[i32] = &[
    -11, -2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 100,
    101, 102, 103, 104, 105, 106, 107, 999,
];

#[test]
fn jute_never_panics_and_what_is_read_can_be_written() {
    let fuzz = Fuzz::new("jute");
    let mut corpus: Vec<(i32, Vec<u8>)> = Vec::new();
    for _ in 0..fuzz.rounds * 4 {
        let known = if corpus.is_empty() || fuzz.rng.below(2) == 0 {
            None
        } else {
            Some(&corpus[fuzz.rng.below(corpus.len() as u64) as usize])
        };
        let (operation, mut bytes) = match known {
            Some((operation, bytes)) => (*operation, bytes.clone()),
            None => (
                OPERATIONS[fuzz.rng.below(OPERATIONS.len() as u64) as usize],
                fuzz.bytes(60),
            ),
        };
        fuzz.mutate(&mut bytes);
        let mut input = Bytes::from(bytes.clone());
        if let Ok(request) = Request::decode(operation, &mut input) {
            let mut again = BytesMut::new();
            request.encode(&mut again);
            if !input.has_remaining() {
                let reread = Request::decode(operation, &mut again.freeze());
                assert_eq!(
                    reread.ok().as_ref(),
                    Some(&request),
                    "operation {operation}: {bytes:?}"
                );
            }
            if corpus.len() < 2_000 && bytes.len() < 400 {
                corpus.push((operation, bytes.clone()));
            }
        }
        let _ = Response::decode(operation, &mut Bytes::from(bytes));
    }
}
