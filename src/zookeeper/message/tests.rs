use super::*;
use crate::common::ids::Zxid;
use crate::common::rng::Rng;
use crate::zookeeper::jute::to_bytes;

fn requests() -> Vec<Request> {
    let data = Some(Bytes::from_static(b"x"));
    let create = CreateRequest {
        path: "/a".into(),
        data: None,
        acl: Acl::open(),
        flags: flags::EPHEMERAL,
    };
    let versioned = VersionedPath {
        path: "/a".into(),
        version: 3,
    };
    let watched = WatchedPath {
        path: "/a".into(),
        watch: true,
    };
    let set_data = SetDataRequest {
        path: "/a".into(),
        data,
        version: -1,
    };
    vec![
        Request::Create(CreateKind::Create, create.clone()),
        Request::Create(CreateKind::Create2, create.clone()),
        Request::Create(CreateKind::Container, create.clone()),
        Request::CreateTtl(CreateTtlRequest {
            path: "/t".into(),
            ttl_ms: 5,
            ..CreateTtlRequest::default()
        }),
        Request::Delete(versioned.clone()),
        Request::Exists(watched.clone()),
        Request::GetData(watched.clone()),
        Request::SetData(set_data.clone()),
        Request::GetAcl("/a".into()),
        Request::SetAcl(SetAclRequest {
            path: "/a".into(),
            acl: Acl::read_only(),
            version: 0,
        }),
        Request::GetChildren(watched.clone()),
        Request::GetChildren2(watched.clone()),
        Request::Sync("/".into()),
        Request::Ping,
        Request::Multi(vec![
            MultiOp::Create(CreateKind::Create, create),
            MultiOp::SetData(set_data),
            MultiOp::Delete(versioned.clone()),
            MultiOp::Check(versioned),
        ]),
        Request::MultiRead(vec![
            MultiOp::GetData(watched.clone()),
            MultiOp::GetChildren(watched),
        ]),
        Request::CheckWatches(WatchesRequest {
            path: "/a".into(),
            kind: watcher_type::ANY,
        }),
        Request::RemoveWatches(WatchesRequest::default()),
        Request::Auth(AuthRequest {
            kind: 0,
            scheme: "digest".into(),
            auth: Some(Bytes::from_static(b"u:p")),
        }),
        Request::SetWatches(SetWatchesRequest {
            relative_zxid: 9,
            data: vec!["/a".into(), "/b".into()],
            ..SetWatchesRequest::default()
        }),
        Request::SetWatches2(SetWatches2Request {
            persistent_recursive: vec!["/r".into()],
            ..SetWatches2Request::default()
        }),
        Request::GetEphemerals("/".into()),
        Request::GetAllChildrenNumber("/".into()),
        Request::AddWatch(AddWatchRequest {
            path: "/a".into(),
            mode: watch_mode::PERSISTENT_RECURSIVE,
        }),
        Request::CloseSession,
    ]
}

#[test]
fn every_request_reads_back() {
    for request in requests() {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        let mut input = out.freeze();
        assert_eq!(Request::decode(request.op(), &mut input), Ok(request));
        assert!(input.is_empty());
    }
}

#[test]
fn requests_cut_anywhere_are_errors_and_never_panic() {
    for request in requests() {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        for cut in 0..out.len() {
            let mut input = Bytes::copy_from_slice(&out[..cut]);
            assert!(
                Request::decode(request.op(), &mut input).is_err(),
                "{request:?} at {cut}"
            );
        }
    }
}

#[test]
fn noise_never_panics() {
    let rng = Rng::from_seed(7);
    let seeds: Vec<_> = requests()
        .iter()
        .map(|request| {
            let mut out = BytesMut::new();
            request.encode(&mut out);
            (request.op(), out)
        })
        .collect();
    for round in 0..20_000_u64 {
        let (op, seed) = &seeds[rng.below(seeds.len() as u64) as usize];
        let mut bytes = if round % 3 == 0 {
            let mut noise = vec![0; rng.below(64) as usize];
            rng.fill(&mut noise);
            BytesMut::from(&noise[..])
        } else {
            seed.clone()
        };
        for _ in 0..rng.below(4) {
            if !bytes.is_empty() {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
        }
        let bytes = bytes.freeze();
        let _ = Request::decode(*op, &mut bytes.clone());
        let _ = Response::decode(*op, &mut bytes.clone());
        let _ = ConnectRequest::decode(&mut bytes.clone());
        let _ = ConnectResponse::decode(&mut bytes.clone());
    }
}

#[test]
fn a_handshake_is_37_bytes_or_36_from_old_clients() {
    for (read_only, length) in [(Some(false), 37), (None, 36)] {
        let response = ConnectResponse {
            timeout_ms: 18_000,
            session_id: 0x100_0000_ca7b_e000,
            password: [7; 16],
            read_only,
            ..ConnectResponse::default()
        };
        let mut bytes = to_bytes(&response);
        assert_eq!(bytes.len(), length);
        assert_eq!(ConnectResponse::decode(&mut bytes), Ok(response));
    }
}

/// create, check (bad version), setData: the bytes that ZooKeeper 3.6.2 answers.
#[test]
fn a_failed_multi_has_an_error_for_every_step() {
    let results = vec![
        MultiResult::Error(None),
        MultiResult::Error(Some(ErrorCode::BadVersion)),
        MultiResult::Error(Some(ErrorCode::RuntimeInconsistency)),
    ];
    let part = |err: i32| {
        let mut bytes = vec![0xff, 0xff, 0xff, 0xff, 0];
        bytes.extend_from_slice(&err.to_be_bytes());
        bytes.extend_from_slice(&err.to_be_bytes());
        bytes
    };
    let mut expected = part(0);
    expected.extend(part(-103));
    expected.extend(part(-2));
    expected.extend([0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff]);
    let mut bytes = to_bytes(&results);
    assert_eq!(bytes, expected);
    assert_eq!(Vec::<MultiResult>::decode(&mut bytes), Ok(results));
}

#[test]
fn responses_read_back() {
    let stat = Stat {
        czxid: Zxid(5),
        ..Stat::default()
    };
    for (op, response) in [
        (op::CREATE, Response::Path("/a".into())),
        (op::SET_DATA, Response::Stat(stat)),
        (op::DELETE, Response::Nothing),
        (op::GET_DATA, Response::Data(DataReply { data: None, stat })),
        (
            op::GET_CHILDREN2,
            Response::Children2(Children2Reply {
                children: vec!["a".into()],
                stat,
            }),
        ),
        (op::ADD_WATCH, Response::Error(0)),
        (
            op::MULTI,
            Response::Multi(vec![
                MultiResult::Create("/a".into()),
                MultiResult::SetData(stat),
            ]),
        ),
    ] {
        let mut out = BytesMut::new();
        response.encode(&mut out);
        assert_eq!(Response::decode(op, &mut out.freeze()), Ok(response));
    }
}

#[test]
fn an_event_frame_is_zookeepers() {
    let mut out = BytesMut::new();
    put_event(&mut out, EventType::NodeDeleted, "/a");
    let expected = [
        0, 0, 0, 30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0,
        0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 2, b'/', b'a',
    ];
    assert_eq!(&out[..], &expected[..]);
}
