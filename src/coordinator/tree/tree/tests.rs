use super::*;
use crate::zookeeper::error::ErrorCode::*;

const ME: SessionId = SessionId(0x100_0000_0000_0001);
const YOU: SessionId = SessionId(0x100_0000_0000_0002);
const LINE: ConnectionId = ConnectionId(7);
const PASSWORD: [u8; PASSWORD_BYTES] = [1; PASSWORD_BYTES];

/// A tree with two sessions, and the clock and counters that a proposer would have.
struct World {
    tree: Tree,
    sequences: BTreeMap<SessionId, u64>,
    auth: Vec<Id>,
}

impl World {
    fn new() -> World {
        let mut world = World {
            tree: Tree::new(),
            sequences: BTreeMap::new(),
            auth: vec![Id::new("ip", "127.0.0.1")],
        };
        for session in [ME, YOU] {
            let op = Op::CreateSession {
                password: PASSWORD,
                timeout_ms: 6000,
            };
            assert_eq!(
                world.raw(session, LINE, 0, op).0.result,
                Ok(Done::Session(6000))
            );
        }
        world
    }

    fn raw(
        &mut self,
        session: SessionId,
        connection: ConnectionId,
        sequence: u64,
        op: Op,
    ) -> (Outcome, Vec<Event>) {
        let zxid = Zxid(self.tree.last_zxid().0 + 1);
        let request = Request {
            session,
            connection,
            sequence,
            now_ms: 1_000_000 + zxid.0,
            auth: self.auth.clone().into(),
            op,
        };
        self.tree.apply(zxid, &request)
    }

    fn op(&mut self, session: SessionId, op: Op) -> (Result<Done, ErrorCode>, Vec<String>) {
        let next = self.sequences.entry(session).or_default();
        *next += 1;
        let sequence = *next;
        let (outcome, events) = self.raw(session, LINE, sequence, op);
        (outcome.result, events.iter().map(text).collect())
    }

    fn change(&mut self, change: Change) -> Result<Done, ErrorCode> {
        self.op(ME, Op::Change(change)).0
    }

    fn create(&mut self, path: &str, flags: i32) -> Result<String, ErrorCode> {
        match self.change(create(path, flags))? {
            Done::Created(path, _) => Ok(path),
            other => panic!("{other:?}"),
        }
    }

    fn stat(&self, path: &str) -> Stat {
        self.tree.get(path).expect(path).stat()
    }
}

fn text(event: &Event) -> String {
    match event {
        Event::Node { kind, path, .. } => format!("{kind:?} {path}"),
        other => format!("{other:?}"),
    }
}

fn create(path: &str, flags: i32) -> Change {
    Change::Create {
        path: path.to_owned(),
        data: Data(Some(Bytes::from_static(b"d"))),
        acl: Acl::open(),
        flags,
    }
}

fn set(path: &str, data: &'static str, version: i32) -> Change {
    Change::SetData {
        path: path.to_owned(),
        data: Data(Some(Bytes::from_static(data.as_bytes()))),
        version,
    }
}

fn delete(path: &str, version: i32) -> Change {
    Change::Delete {
        path: path.to_owned(),
        version,
    }
}

fn check_version(path: &str, version: i32) -> Change {
    Change::Check {
        path: path.to_owned(),
        version,
    }
}

#[test]
fn a_new_tree_has_zookeepers_own_nodes() {
    let tree = Tree::new();
    assert_eq!(tree.node_count(), 5);
    let root = tree.nodes["/"].stat();
    assert_eq!((root.cversion, root.num_children), (-1, 1));
    assert_eq!(tree.nodes["/zookeeper"].stat().cversion, -2);
    assert_eq!(tree.descendants("/"), 3);
}

#[test]
fn creates_are_refused_as_zookeeper_refuses_them() {
    let mut world = World::new();
    world.create("/a", 0).unwrap();
    world.create("/e", flags::EPHEMERAL).unwrap();
    for (path, flags, expected) in [
        ("a", 0, BadArguments),
        ("", 0, BadArguments),
        ("/a//b", 0, NoNode),
        ("/x/", 0, NoNode),
        ("/a/", 0, BadArguments),
        ("/a/./b", 0, NoNode),
        ("/a/.", 0, BadArguments),
        ("/a\0", 0, BadArguments),
        ("/b", 7, BadArguments),
        ("/b", -1, BadArguments),
        ("/b", flags::PERSISTENT_WITH_TTL, Unimplemented),
        ("/a", 0, NodeExists),
        ("/", 0, NodeExists),
        ("/x/y", 0, NoNode),
        ("/e/child", 0, NoChildrenForEphemerals),
    ] {
        assert_eq!(world.create(path, flags), Err(expected), "{path:?} {flags}");
    }
    let no_acl = Change::Create {
        path: "/b".into(),
        data: Data(None),
        acl: vec![],
        flags: 0,
    };
    assert_eq!(world.change(no_acl), Err(InvalidAcl));
}

#[test]
fn deletes_are_refused_as_zookeeper_refuses_them() {
    let mut world = World::new();
    world.create("/a", 0).unwrap();
    world.create("/a/b", 0).unwrap();
    for (path, version, expected) in [
        ("/", -1, BadArguments),
        ("", -1, BadArguments),
        ("/zookeeper", -1, BadArguments),
        ("/zookeeper/config", -1, BadArguments),
        ("/x", -1, NoNode),
        ("/x/y", -1, NoNode),
        ("/a", -1, NotEmpty),
        ("/a/b", 1, BadVersion),
    ] {
        assert_eq!(
            world.change(delete(path, version)),
            Err(expected),
            "{path:?}"
        );
    }
    assert_eq!(world.change(delete("/a/b", 0)), Ok(Done::Nothing));
    assert_eq!(world.change(delete("/a", -1)), Ok(Done::Nothing));
}

#[test]
fn failed_writes_consume_a_zxid() {
    let mut world = World::new();
    let before = world.tree.last_zxid().0;
    for _ in 0..2 {
        assert_eq!(world.create("/x/y", 0), Err(NoNode));
    }
    assert_eq!(world.tree.last_zxid().0, before + 2);
}

#[test]
fn sequences_count_creates_of_any_kind() {
    let mut world = World::new();
    world.create("/sq", 0).unwrap();
    let seq = flags::PERSISTENT_SEQUENTIAL;
    assert_eq!(world.create("/sq/n-", seq).unwrap(), "/sq/n-0000000000");
    assert_eq!(world.create("/sq/n-", seq).unwrap(), "/sq/n-0000000001");
    world.create("/sq/plain", 0).unwrap();
    assert_eq!(world.create("/sq/n-", seq).unwrap(), "/sq/n-0000000003");
    world.change(delete("/sq/n-0000000003", -1)).unwrap();
    let ephemeral = flags::EPHEMERAL_SEQUENTIAL;
    assert_eq!(
        world.create("/sq/n-", ephemeral).unwrap(),
        "/sq/n-0000000004"
    );
    assert_eq!(world.create("/sq/", seq).unwrap(), "/sq/0000000005");
    world.tree.nodes.get_mut("/sq").unwrap().creates = i32::MAX;
    assert_eq!(world.create("/sq/n-", seq).unwrap(), "/sq/n-2147483647");
    assert_eq!(world.create("/sq/n-", seq).unwrap(), "/sq/n--2147483648");
}

#[test]
fn cversion_is_creates_plus_deletes() {
    let mut world = World::new();
    world.create("/p", 0).unwrap();
    for n in 0..7 {
        world.create(&format!("/p/{n}"), 0).unwrap();
    }
    world.change(delete("/p/3", -1)).unwrap();
    let stat = world.stat("/p");
    assert_eq!((stat.cversion, stat.num_children), (8, 6));
    assert_eq!(stat.pzxid, world.tree.last_zxid());
    assert_eq!((stat.version, stat.mzxid), (0, stat.czxid));
}

#[test]
fn versions_and_times_follow_what_changed() {
    let mut world = World::new();
    world.create("/a", 0).unwrap();
    let created = world.stat("/a");
    assert_eq!(
        (created.ctime_ms, created.data_length),
        (created.mtime_ms, 1)
    );
    assert_eq!(created.pzxid, created.czxid);
    let Ok(Done::Stat(stat)) = world.change(set("/a", "four", 0)) else {
        panic!()
    };
    assert_eq!(
        (stat.version, stat.czxid, stat.data_length),
        (1, created.czxid, 4)
    );
    assert!(stat.mzxid > created.mzxid && stat.mtime_ms > created.mtime_ms);
    assert_eq!(world.change(set("/a", "x", 0)), Err(BadVersion));
    assert!(world.change(set("/a", "x", -1)).is_ok());
    let acl = Change::SetAcl {
        path: "/a".into(),
        acl: Acl::open(),
        version: 0,
    };
    let before = world.stat("/a");
    let Ok(Done::Stat(stat)) = world.change(acl.clone()) else {
        panic!()
    };
    assert_eq!(
        stat,
        Stat {
            aversion: 1,
            ..before
        }
    );
    assert_eq!(world.change(acl), Err(BadVersion));
    assert_eq!(world.change(set("a", "x", -1)), Err(BadArguments));
    assert_eq!(world.change(set("/x", "x", -1)), Err(NoNode));
}

#[test]
fn null_data_is_not_empty_data() {
    let mut world = World::new();
    for (path, data) in [("/null", None), ("/empty", Some(Bytes::new()))] {
        let change = Change::Create {
            path: path.into(),
            data: Data(data.clone()),
            acl: Acl::open(),
            flags: 0,
        };
        world.change(change).unwrap();
        assert_eq!(world.tree.get(path).unwrap().data, data);
        assert_eq!(world.stat(path).data_length, 0);
    }
}

#[test]
fn events_name_the_node_and_then_its_parent() {
    let mut world = World::new();
    for (change, expected) in [
        (
            create("/a", 0),
            vec!["NodeCreated /a", "NodeChildrenChanged /"],
        ),
        (
            create("/a/b", 0),
            vec!["NodeCreated /a/b", "NodeChildrenChanged /a"],
        ),
        (set("/a/b", "x", -1), vec!["NodeDataChanged /a/b"]),
        (
            delete("/a/b", -1),
            vec!["NodeDeleted /a/b", "NodeChildrenChanged /a"],
        ),
        (delete("/a/b", -1), vec![]),
        (check_version("/a", 0), vec![]),
    ] {
        assert_eq!(world.op(ME, Op::Change(change)).1, expected);
    }
}

/// What a Kafka 2.8 broker does to register: later steps see earlier ones, and all share one zxid.
#[test]
fn a_multi_is_one_transaction() {
    let mut world = World::new();
    let steps = vec![create("/1", flags::EPHEMERAL), set("/1", "data", 0)];
    let (result, events) = world.op(ME, Op::Multi(steps));
    let Ok(Done::Multi(Ok(done))) = result else {
        panic!("{result:?}")
    };
    let [Done::Created(path, _), Done::Stat(stat)] = &done[..] else {
        panic!("{done:?}")
    };
    assert_eq!(path, "/1");
    assert_eq!(
        (stat.czxid, stat.mzxid),
        (world.tree.last_zxid(), world.tree.last_zxid())
    );
    assert_eq!((stat.version, stat.ephemeral_owner), (1, ME));
    assert_eq!(
        events,
        [
            "NodeCreated /1",
            "NodeChildrenChanged /",
            "NodeDataChanged /1"
        ]
    );
}

#[test]
fn a_failed_multi_leaves_no_trace() {
    let mut world = World::new();
    world.create("/a", 0).unwrap();
    world.create("/a/b", 0).unwrap();
    let before = world.tree.clone();
    let steps = vec![
        create("/a/c", flags::EPHEMERAL),
        create("/a/c-", flags::EPHEMERAL_SEQUENTIAL),
        create("/k", flags::CONTAINER),
        create("/k/x", 0),
        set("/a/b", "longer", 0),
        Change::SetAcl {
            path: "/a/b".into(),
            acl: Acl::read_only(),
            version: -1,
        },
        delete("/a/c", -1),
        check_version("/a/b", 0),
        set("/a", "x", -1),
    ];
    let (result, events) = world.op(ME, Op::Multi(steps));
    let mut expected = vec![None; 7];
    expected.extend([Some(BadVersion), Some(RuntimeInconsistency)]);
    assert_eq!(result, Ok(Done::Multi(Err(expected))));
    assert!(events.is_empty());
    let mut after = world.tree.clone();
    after.last_zxid = before.last_zxid;
    after.sessions = before.sessions.clone();
    assert_eq!(after, before);
    assert_eq!(
        world.op(ME, Op::Multi(vec![])).0,
        Ok(Done::Multi(Ok(vec![])))
    );
}

#[test]
fn ephemerals_go_with_their_session_in_one_transaction() {
    let mut world = World::new();
    world.create("/a", flags::EPHEMERAL).unwrap();
    world.create("/b", flags::EPHEMERAL).unwrap();
    assert_eq!(world.stat("/a").ephemeral_owner, ME);
    world
        .op(YOU, Op::Change(create("/c", flags::EPHEMERAL)))
        .0
        .unwrap();
    let (result, events) = world.op(ME, Op::CloseSession);
    assert_eq!(result, Ok(Done::Nothing));
    assert_eq!(events.len(), 5);
    assert_eq!(events[0], "NodeDeleted /a");
    assert!(world.tree.get("/a").is_none() && world.tree.get("/c").is_some());
    assert_eq!(world.create("/d", 0), Err(SessionExpired));
    assert_eq!(world.op(ME, Op::CloseSession).0, Err(SessionExpired));
}

#[test]
fn only_the_term_that_decided_expires_a_session() {
    let mut world = World::new();
    world.tree.last_zxid = Zxid(5 << 32);
    for (term, expected) in [(4, Err(RequestTimeout)), (5, Ok(Done::Nothing))] {
        let (outcome, _) = world.raw(ME, ConnectionId(0), 0, Op::ExpireSession { term });
        assert_eq!(outcome.result, expected);
    }
}

#[test]
fn writes_of_a_former_connection_are_refused() {
    let mut world = World::new();
    world.create("/a", 0).unwrap();
    let attach = |password| Op::AttachSession {
        password,
        timeout_ms: 8000,
    };
    let new = ConnectionId(8);
    let (outcome, events) = world.raw(ME, new, 0, attach([9; PASSWORD_BYTES]));
    assert_eq!((outcome.result, events.len()), (Err(SessionExpired), 0));
    let (outcome, events) = world.raw(ME, new, 0, attach(PASSWORD));
    assert_eq!(outcome.result, Ok(Done::Session(8000)));
    assert_eq!(events, [Event::SessionMoved(ME, new)]);
    assert_eq!(world.create("/b", 0), Err(SessionMoved));
    let (outcome, _) = world.raw(ME, new, 1, Op::Change(create("/b", 0)));
    assert!(outcome.result.is_ok());
}

#[test]
fn repeated_and_early_writes_take_no_effect() {
    let mut world = World::new();
    let op = |path: &str| Op::Change(create(path, 0));
    assert!(world.raw(ME, LINE, 1, op("/a")).0.result.is_ok());
    assert_eq!(
        world.raw(ME, LINE, 1, op("/b")).0.result,
        Err(ConnectionLoss)
    );
    assert_eq!(
        world.raw(ME, LINE, 3, op("/b")).0.result,
        Err(ConnectionLoss)
    );
    assert!(world.raw(ME, LINE, 2, op("/b")).0.result.is_ok());
    let again = Op::CreateSession {
        password: PASSWORD,
        timeout_ms: 6000,
    };
    assert_eq!(
        world.raw(ME, LINE, 0, again).0.result,
        Ok(Done::Session(6000))
    );
    assert!(
        world.raw(ME, LINE, 3, op("/c")).0.result.is_ok(),
        "the count goes on"
    );
}

#[test]
fn acls_are_checked_where_zookeeper_checks_them() {
    let mut world = World::new();
    let only = |perms: i32| {
        vec![Acl {
            perms,
            id: Id::new("world", "anyone"),
        }]
    };
    let with = |path: &str, acl: Vec<Acl>| Change::Create {
        path: path.into(),
        data: Data(None),
        acl,
        flags: 0,
    };
    world.change(with("/read", only(acl::READ))).unwrap();
    world.change(with("/create", only(acl::CREATE))).unwrap();
    for (change, expected) in [
        (create("/read/x", 0), Err(NoAuth)),
        (set("/read", "x", -1), Err(NoAuth)),
        (check_version("/read", 0), Ok(())),
        (create("/create/x", 0), Ok(())),
        (delete("/create/x", -1), Err(NoAuth)),
        (check_version("/create", 0), Err(NoAuth)),
    ] {
        assert_eq!(
            world.change(change.clone()).map(drop),
            expected,
            "{change:?}"
        );
    }
    let acl = Change::SetAcl {
        path: "/read".into(),
        acl: Acl::open(),
        version: -1,
    };
    assert_eq!(world.change(acl.clone()), Err(NoAuth));
    world.auth.push(Id::new("super", ""));
    assert!(world.change(acl).is_ok());
}

#[test]
fn containers_are_removed_after_their_last_child() {
    let mut world = World::new();
    world.create("/c", flags::CONTAINER).unwrap();
    assert_eq!(world.stat("/c").ephemeral_owner, SessionId(0));
    assert!(
        world.tree.empty_containers(0, 0).is_empty(),
        "it never had a child"
    );
    world.create("/c/x", 0).unwrap();
    let remove = || Op::DeleteContainer { path: "/c".into() };
    let nobody = SessionId(0);
    assert_eq!(world.raw(nobody, LINE, 0, remove()).0.result, Err(NotEmpty));
    world.change(delete("/c/x", -1)).unwrap();
    assert_eq!(world.tree.empty_containers(0, 0), ["/c"]);
    assert_eq!(
        world.raw(nobody, LINE, 0, remove()).0.result,
        Ok(Done::Nothing)
    );
    assert!(world.tree.get("/c").is_none());
}

#[test]
fn containers_that_nobody_used_may_be_removed_too() {
    let mut world = World::new();
    world.create("/c", flags::CONTAINER).unwrap();
    let made_ms = world.stat("/c").mtime_ms;
    for (later_ms, never_used_ms, is_candidate) in
        [(1_000_000, 0, false), (500, 500, false), (501, 500, true)]
    {
        let found = world
            .tree
            .empty_containers(made_ms + later_ms, never_used_ms);
        assert_eq!(found == ["/c"], is_candidate, "{later_ms} {never_used_ms}");
    }
}

fn create_ttl(path: &str, is_sequential: bool, ttl_ms: i64) -> Change {
    Change::CreateTtl {
        path: path.to_owned(),
        data: Data(None),
        acl: Acl::open(),
        is_sequential,
        ttl_ms,
    }
}

/// Every request of a [`World`] is 1 ms later than the one before.
#[test]
fn ttl_nodes_go_when_nobody_set_them_and_they_have_no_children() {
    let mut world = World::new();
    for ttl_ms in [0, -1, 0x100_0000_0000] {
        let refused = world.change(create_ttl("/t", false, ttl_ms));
        assert_eq!(refused, Err(BadArguments), "{ttl_ms}");
    }
    world.change(create_ttl("/t", false, 10)).unwrap();
    let Ok(Done::Created(path, stat)) = world.change(create_ttl("/s-", true, 1 << 39)) else {
        panic!()
    };
    assert_eq!(
        (path.as_str(), stat.ephemeral_owner),
        ("/s-0000000001", SessionId(0))
    );
    let made_ms = world.stat("/t").mtime_ms;
    assert!(world.tree.overdue(made_ms + 10).is_empty());
    assert_eq!(world.tree.overdue(made_ms + 11), ["/t"]);
    let nobody = SessionId(0);
    let remove = || Op::DeleteTtl { path: "/t".into() };
    // Decided too early, or by a clock that is ahead: it stays.
    assert_eq!(
        world.raw(nobody, LINE, 0, remove()).0.result,
        Err(BadVersion)
    );
    world.create("/t/child", 0).unwrap();
    for _ in 0..20 {
        assert_eq!(
            world.raw(nobody, LINE, 0, remove()).0.result,
            Err(BadVersion)
        );
    }
    world.change(delete("/t/child", -1)).unwrap();
    assert_eq!(world.tree.overdue(made_ms + 60), ["/t"]);
    // It was set since the leader looked.
    world.change(set("/t", "x", -1)).unwrap();
    assert_eq!(
        world.raw(nobody, LINE, 0, remove()).0.result,
        Err(BadVersion)
    );
    for _ in 0..10 {
        world.change(check_version("/none", 0)).unwrap_err();
    }
    let (outcome, events) = world.raw(nobody, LINE, 0, remove());
    assert_eq!(outcome.result, Ok(Done::Nothing));
    let events: Vec<_> = events.iter().map(text).collect();
    assert_eq!(events, ["NodeDeleted /t", "NodeChildrenChanged /"]);
    assert_eq!(world.raw(nobody, LINE, 0, remove()).0.result, Err(NoNode));
    let plain = Op::DeleteTtl {
        path: "/zookeeper".into(),
    };
    assert_eq!(world.raw(nobody, LINE, 0, plain).0.result, Err(BadVersion));
}

fn with_data(path: &str, data: &str) -> Change {
    Change::Create {
        path: path.to_owned(),
        data: Data(Some(Bytes::copy_from_slice(data.as_bytes()))),
        acl: Acl::open(),
        flags: 0,
    }
}

/// Makes a quota as zkCli does.
fn set_quota(world: &mut World, path: &str, limits: &str) {
    let quota = format!("/zookeeper/quota{path}");
    for (at, _) in quota.match_indices('/').skip(3) {
        let _ = world.change(with_data(&quota[..at], ""));
    }
    world.change(with_data(&quota, "")).unwrap();
    world
        .change(with_data(&format!("{quota}/zookeeper_limits"), limits))
        .unwrap();
    let stats = format!("{quota}/zookeeper_stats");
    world.change(with_data(&stats, "count=0,bytes=0")).unwrap();
}

fn stats(world: &World, path: &str) -> String {
    let node = world
        .tree
        .get(&format!("/zookeeper/quota{path}/zookeeper_stats"));
    let data = node.and_then(|node| node.data.clone());
    String::from_utf8(data.unwrap().to_vec()).unwrap()
}

#[test]
fn quotas_are_counted_and_nothing_is_refused() {
    let mut world = World::new();
    world.change(with_data("/q", "12345")).unwrap();
    world.change(with_data("/q/a", "1")).unwrap();
    world.change(with_data("/qq", "elsewhere")).unwrap();
    set_quota(&mut world, "/q", "count=3,bytes=-1");
    assert_eq!(stats(&world, "/q"), "count=2,bytes=6", "what was there");
    let before = world.stat("/zookeeper/quota/q/zookeeper_stats");
    for (change, expected) in [
        (with_data("/q/b", "four"), "count=3,bytes=10"),
        (with_data("/q/b/c", ""), "count=4,bytes=10"),
        (set("/q", "", -1), "count=4,bytes=5"),
        (with_data("/qr", "x"), "count=4,bytes=5"),
        (delete("/q/b/c", -1), "count=3,bytes=5"),
        (create("/q/e", flags::EPHEMERAL), "count=4,bytes=6"),
    ] {
        world.change(change).unwrap();
        assert_eq!(stats(&world, "/q"), expected);
    }
    let after = world.stat("/zookeeper/quota/q/zookeeper_stats");
    assert_eq!((after.version, after.mzxid), (before.version, before.mzxid));
    // Beyond its limit it is told of, once for each write.
    let (result, events) = world.op(ME, Op::Change(with_data("/q/f", "x")));
    assert!(result.is_ok());
    let told = events.last().unwrap();
    assert!(
        told.contains("QuotaExceeded") && told.contains("found: 5, limit: 3"),
        "{told}"
    );
    // A multi that fails counts nothing.
    let steps = vec![with_data("/q/g", "xyz"), check_version("/none", 0)];
    let (result, events) = world.op(ME, Op::Multi(steps));
    assert!(matches!(result, Ok(Done::Multi(Err(_)))) && events.is_empty());
    assert_eq!(stats(&world, "/q"), "count=5,bytes=7");
    // The end of a session is a delete as any other.
    let (result, _) = world.op(ME, Op::CloseSession);
    assert!(result.is_ok());
    assert_eq!(stats(&world, "/q"), "count=4,bytes=6");
}

#[test]
fn the_nearest_quota_counts_and_without_limits_nothing_does() {
    let mut world = World::new();
    for path in ["/a", "/a/b", "/a/b/c"] {
        world.change(with_data(path, "x")).unwrap();
    }
    set_quota(&mut world, "/a", "count=-1,bytes=1");
    set_quota(&mut world, "/a/b", "count=-1,bytes=-1");
    world.change(with_data("/a/b/d", "xx")).unwrap();
    assert_eq!(stats(&world, "/a/b"), "count=3,bytes=4");
    assert_eq!(stats(&world, "/a"), "count=3,bytes=3");
    let limits = "/zookeeper/quota/a/b/zookeeper_limits";
    world.change(delete(limits, -1)).unwrap();
    world.change(with_data("/a/b/e", "xx")).unwrap();
    assert_eq!(stats(&world, "/a/b"), "count=3,bytes=4");
    assert_eq!(stats(&world, "/a"), "count=4,bytes=5");
    // What is no count is counted anew.
    let own = "/zookeeper/quota/a/zookeeper_stats";
    world.change(set(own, "nonsense", -1)).unwrap();
    world.change(set("/a", "xxx", -1)).unwrap();
    assert_eq!(stats(&world, "/a"), "count=5,bytes=9");
}

#[test]
fn snapshots_of_the_first_format_are_read_and_their_quotas_counted() {
    let mut world = World::new();
    world.change(with_data("/q", "12345")).unwrap();
    set_quota(&mut world, "/q", "count=3,bytes=-1");
    // Who wrote that format did not count.
    let own = "/zookeeper/quota/q/zookeeper_stats";
    world.change(set(own, "count=0,bytes=0", -1)).unwrap();
    let mut bytes = world.tree.to_bytes();
    bytes.truncate(bytes.len() - 4);
    bytes[8..12].copy_from_slice(&1_i32.to_be_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
    world.tree = Tree::from_bytes(&bytes).unwrap();
    assert_eq!(stats(&world, "/q"), "count=1,bytes=5");
    world.change(with_data("/q/a", "1")).unwrap();
    assert_eq!(stats(&world, "/q"), "count=2,bytes=6");
    let again = Tree::from_bytes(&world.tree.to_bytes()).unwrap();
    assert_eq!(again, world.tree);
}

/// The digest that follows each change is the one of the nodes that are there.
#[test]
fn the_digest_follows_every_kind_of_change() {
    let mut world = World::new();
    let mut seen = BTreeSet::from([world.tree.ad_hash()]);
    let acl = Change::SetAcl {
        path: "/a".into(),
        acl: Acl::read_only(),
        version: -1,
    };
    for (change, is_ok) in [
        (create("/a", 0), true),
        (create("/a/b", flags::EPHEMERAL), true),
        (create("/a/c", flags::CONTAINER), true),
        (create_ttl("/a/t", false, 5), true),
        (set("/a", "other", -1), true),
        (delete("/a/b", -1), true),
        (create("/a", 0), false),
        (acl, true),
    ] {
        assert_eq!(world.change(change.clone()).is_ok(), is_ok);
        let steps = vec![
            create("/m", 0),
            create("/m/n", 0),
            set("/m", "x", 0),
            delete("/x", 0),
        ];
        world.op(ME, Op::Multi(steps)).0.unwrap();
        let back = Tree::from_bytes(&world.tree.to_bytes()).unwrap();
        assert_eq!(back, world.tree, "{change:?}");
        assert_eq!(seen.insert(world.tree.ad_hash()), is_ok, "{change:?}");
    }
    let before = world.tree.ad_hash();
    set_quota(&mut world, "/a", "count=1,bytes=1");
    let quota = world.tree.ad_hash();
    // ZooKeeper's own nodes do not count, but /zookeeper itself.
    assert_eq!(quota, before);
}

#[test]
fn snapshots_read_back_and_damage_is_found() {
    let mut world = World::new();
    world.create("/a", 0).unwrap();
    world.create("/a-b", flags::CONTAINER).unwrap();
    world.change(create_ttl("/a/t", false, 77)).unwrap();
    world.create("/a/b", flags::EPHEMERAL_SEQUENTIAL).unwrap();
    world.change(set("/a", "zxy", 0)).unwrap();
    world.change(delete("/a-b", 0)).unwrap();
    let bytes = world.tree.to_bytes();
    let back = Tree::from_bytes(&bytes).unwrap();
    assert_eq!(back, world.tree);
    assert_eq!(back.digest(), world.tree.digest());
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(Tree::from_bytes(&damaged).is_err(), "byte {at}");
        assert!(Tree::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
    }
    world.create("/z", 0).unwrap();
    assert_ne!(back.digest(), world.tree.digest());
}

#[test]
fn log_types_survive_a_format_with_and_without_bytes() {
    let request = Request {
        session: ME,
        connection: LINE,
        sequence: 1,
        now_ms: 5,
        auth: vec![Id::new("ip", "::1")].into(),
        op: Op::Multi(vec![
            create("/a", 0),
            Change::SetData {
                path: "/a".into(),
                data: Data(None),
                version: 0,
            },
        ]),
    };
    let json = serde_json::to_vec(&request).unwrap();
    assert_eq!(serde_json::from_slice::<Request>(&json).unwrap(), request);
}
