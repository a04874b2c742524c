//! What options switch on, and the words that hang on them.

use super::*;

fn ttl(path: &str, flags: i32, ttl_ms: i64) -> CreateTtlRequest {
    CreateTtlRequest {
        path: path.to_owned(),
        data: None,
        acl: Acl::open(),
        flags,
        ttl_ms,
    }
}

#[tokio::test]
async fn ttl_nodes_are_there_only_where_they_are_allowed() {
    let timed = flags::PERSISTENT_WITH_TTL;
    let server = start().await;
    let mut client = server.connect().await;
    assert_eq!(
        client.call(Ask::CreateTtl(ttl("/t", timed, 5000))).await,
        Err(-6)
    );
    assert_eq!(
        client.call(Ask::CreateTtl(ttl("/t", 0, 5000))).await,
        Err(-8)
    );
    assert_eq!(client.create("/t", timed).await, Err(-6));

    let server = start_with(|options| {
        options.extended_types = true;
        options.containers.check_interval_ms = 50;
    })
    .await;
    let mut client = server.connect().await;
    for (flags, ttl_ms) in [(0, 5000), (timed, 0), (timed, -1), (timed, 1 << 40)] {
        let request = Ask::CreateTtl(ttl("/t", flags, ttl_ms));
        assert_eq!(client.call(request).await, Err(-8), "{flags} {ttl_ms}");
    }
    assert_eq!(client.create("/t", timed).await, Err(-8), "it says no TTL");
    let made = client
        .call(Ask::CreateTtl(ttl("/long", timed, 3_600_000)))
        .await;
    let Ok(Response::Create2(reply)) = made else {
        panic!("{made:?}")
    };
    assert_eq!(
        (reply.path.as_str(), reply.stat.ephemeral_owner),
        ("/long", SessionId(0))
    );
    let step = MultiOp::CreateTtl(ttl("/short-", flags::PERSISTENT_SEQUENTIAL_WITH_TTL, 1));
    let made = client.call(Ask::Multi(vec![step])).await;
    let Ok(Response::Multi(results)) = made else {
        panic!("{made:?}")
    };
    let [MultiResult::Create2(CreateKind::Create2, reply)] = &results[..] else {
        panic!("{results:?}")
    };
    let short = reply.path.clone();
    assert_eq!(short, "/short-0000000001");
    let gone = async {
        while client.call(Ask::Exists(watched(&short))).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone)
        .await
        .expect("it goes by itself");
    assert!(client.call(Ask::Exists(watched("/long"))).await.is_ok());
}

#[tokio::test]
async fn whoever_skips_acls_may_do_everything() {
    let server = start_with(|options| options.auth.skip_acl = true).await;
    let mut client = server.connect().await;
    let mut record = create("/mine", 0);
    record.acl[0].id = Id::new("digest", "u:h");
    let made = client.call(Ask::Create(CreateKind::Create, record)).await;
    assert!(made.is_ok());
    assert!(client.call(Ask::SetData(set("/mine", 0))).await.is_ok());
    assert!(client.call(Ask::GetData(watched("/mine"))).await.is_ok());
}

#[tokio::test]
async fn ephemerals_are_listed_by_prefix() {
    let server = start().await;
    let mut client = server.connect().await;
    for path in ["/ab", "/abc", "/x"] {
        client.create(path, flags::EPHEMERAL).await.unwrap();
    }
    for (prefix, expected) in [
        ("/ab", vec!["/ab", "/abc"]),
        ("/", vec!["/ab", "/abc", "/x"]),
        ("", vec!["/ab", "/abc", "/x"]),
        (" ", vec!["/ab", "/abc", "/x"]),
        ("/none", vec![]),
        ("x", vec![]),
    ] {
        let answer = client.call(Ask::GetEphemerals(prefix.to_owned())).await;
        let expected = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(answer, Ok(Response::Children(expected)), "{prefix:?}");
    }
}

#[tokio::test]
async fn the_trace_mask_is_shown_and_set() {
    let all = |options: &mut Options| options.four_letter_words = vec!["*".to_owned()];
    let server = start_with(all).await;
    assert_eq!(server.word("gtmk").await, "306");
    assert_eq!(server.word("stmk\0\0\0\0\0\0\x01\x00").await, "256");
    assert_eq!(server.word("gtmk").await, "256");
    let mut client = server.connect().await;
    for _ in 0..130 {
        client
            .create("/n", flags::PERSISTENT_SEQUENTIAL)
            .await
            .unwrap();
    }
    let hash = server.word("hash").await;
    let line = hash.strip_suffix('\n').expect("one line");
    let (zxid, digest) = line.split_once(": ").expect("two parts");
    let zxid = i64::from_str_radix(zxid, 16).expect("a number");
    assert_eq!(zxid % 128, 0);
    assert!(digest.parse::<i64>().is_ok(), "{digest}");
    let server = start().await;
    let refused = "stmk is not executed because it is not in the whitelist.\n";
    assert_eq!(server.word("stmk").await, refused);
}

/// One of three, alone: it serves nobody, but who only reads.
#[tokio::test]
async fn a_member_without_a_quorum_serves_who_only_reads() {
    let change = |options: &mut Options| options.read_only_mode = true;
    let mut all = start_three_with(change).await;
    let mut writer = all[0].connect().await;
    writer.create("/a", 0).await.unwrap();
    let (id, password) = (writer.session.session_id, writer.session.password);
    let left = all.remove(0);
    for one in all {
        one.coordinator.shutdown().await;
    }
    let read_only = async {
        while left.word("isro").await != "ro" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, read_only)
        .await
        .expect("it becomes read-only");
    let srvr = left.word("srvr").await;
    assert!(
        srvr.contains("\nREAD-ONLY mode; serving only read-only clients\nLatency"),
        "{srvr}"
    );
    assert!(srvr.contains("\nMode: read-only\n"), "{srvr}");
    // Whoever could write is refused, with a session and without.
    assert!(left.handshake(0, &[0; 16], 0, Some(false)).await.is_none());
    assert!(left.handshake(0, &[0; 16], 0, None).await.is_none());
    assert!(
        left.handshake(0, &[0; 16], i64::MAX, Some(true))
            .await
            .is_none()
    );
    let mut client = left
        .handshake(0, &[0; 16], 0, Some(true))
        .await
        .expect("served");
    assert_eq!(client.session.read_only, Some(true));
    assert!(client.call(Ask::GetData(watched("/a"))).await.is_ok());
    for request in [
        Ask::Create(CreateKind::Create, create("/b", 0)),
        Ask::Delete(versioned("/a", -1)),
        Ask::SetData(set("/a", -1)),
        Ask::Sync("/".to_owned()),
        Ask::Multi(vec![]),
    ] {
        assert_eq!(client.call(request.clone()).await, Err(-119), "{request:?}");
    }
    assert!(client.call(Ask::Ping).await.is_ok());
    assert_eq!(client.call(Ask::CloseSession).await, Ok(Response::Nothing));
    assert!(client.ended().await);
    // A session of the ensemble goes on, with its password.
    for (given, expected) in [(password, id), ([7; 16], 0)] {
        let client = left.handshake(id, &given, 0, Some(true)).await;
        assert_eq!(client.expect("answered").session.session_id, expected);
    }
    left.coordinator.shutdown().await;
}
