//! The client's connections: one for each purpose, shared by who may share, closed with their owner.

use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, ListGroupsRequest, MetadataRequest,
};
use kafka_protocol::protocol::StrBytes;
use tripod::client::cluster::Purpose;

use crate::cluster::{Client, Cluster, Plan, http_get, wait_until};

/// How many connections the first node's Kafka listener has.
async fn open(cluster: &Cluster) -> Option<usize> {
    let name = "kafka_server_socket_server_metrics_connection_count{listener=\"PLAINTEXT\"} ";
    let (_, text) = http_get(&cluster.nodes[0].http, "/metrics").await.ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().parse().ok()
}

async fn becomes(cluster: &Cluster, what: &str, wanted: usize) {
    wait_until(what, || async {
        (open(cluster).await? == wanted).then_some(())
    })
    .await;
}

async fn join(client: &Client, purpose: Purpose, member: &str, limit: Duration) -> (i16, String) {
    let connection = client.cluster.coordinator_for(purpose, "g").await;
    let protocol =
        JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str("range"));
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_member_id(StrBytes::from_string(member.to_owned()))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol]);
    let connection = connection.expect("the coordinator");
    let answer = connection.send_within(&request, 5, limit).await;
    let answer = answer.expect("an answer");
    (answer.error_code, answer.member_id.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_waits_for_a_rebalance_keeps_nobody_else_waiting() {
    let mut cluster = Plan::nodes(1).start().await;
    let client = cluster.client();
    let [first, second] = [(); 2].map(|()| Purpose::Member(client.cluster.new_owner()));
    let patience = Duration::from_secs(60);
    // The coordinator's own topic comes to be first.
    wait_until("there is a coordinator", || async {
        client.cluster.coordinator("g").await.ok()
    })
    .await;
    let (error, member) = wait_until("it is known by a number", || async {
        let told = join(&client, first, "", patience).await;
        (!told.1.is_empty()).then_some(told)
    })
    .await;
    let (required, other) = join(&client, second, "", patience).await;
    assert_eq!(
        [error, required],
        [ResponseError::MemberIdRequired.code(); 2]
    );
    assert_eq!(join(&client, first, &member, patience).await.0, 0);

    // The second joins, and its answer waits for the first to join again.
    let waiting = join(&client, second, &other, patience);
    let meanwhile = async {
        let heartbeat = HeartbeatRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_generation_id(1)
            .with_member_id(StrBytes::from_string(member.clone()));
        wait_until("the first hears of the rebalance", || async {
            let connection = client.cluster.coordinator_for(first, "g").await.ok()?;
            let answer = connection.send_as(&heartbeat, 3).await.expect("answered");
            (answer.error_code == ResponseError::RebalanceInProgress.code()).then_some(())
        })
        .await;
        // Others who ask about groups, or about anything.
        let connection = client.cluster.coordinator("g").await.expect("connected");
        let listed = connection.send_as(&ListGroupsRequest::default(), 3).await;
        assert_eq!(listed.expect("answered").groups.len(), 1);
        let connection = client.cluster.any().await.expect("connected");
        let told = connection.send_as(&MetadataRequest::default(), 9).await;
        assert_eq!(told.expect("answered").brokers.len(), 1);
        join(&client, first, &member, patience).await
    };
    let (second_joined, first_joined) = tokio::join!(waiting, meanwhile);
    assert_eq!((second_joined.0, first_joined.0), (0, 0));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_go_with_their_owner_and_come_back_when_they_broke() {
    let mut cluster = Plan::nodes(1).start().await;
    // The harness asked for metadata at the start; a node alone connects to nobody.
    becomes(&cluster, "what the start opened is closed", 0).await;
    let client = cluster.client();
    let address = cluster.nodes[0].kafka.clone();
    let owners = [(); 3].map(|()| client.cluster.new_owner());
    let purposes = [
        Purpose::General,
        Purpose::Group,
        Purpose::Member(owners[0]),
        Purpose::Member(owners[1]),
        Purpose::Fetch(owners[2]),
    ];
    let connect = async |purpose| {
        let connection = client.cluster.connect_for(purpose, &address).await;
        connection.expect("connected")
    };
    for _ in 0..2 {
        for purpose in purposes {
            connect(purpose).await;
        }
    }
    becomes(&cluster, "one for each purpose", purposes.len()).await;
    // Many at once open one.
    let fresh = Purpose::Member(client.cluster.new_owner());
    tokio::join!(connect(fresh), connect(fresh), connect(fresh));
    becomes(&cluster, "one more", purposes.len() + 1).await;

    client.cluster.release(fresh);
    client.cluster.release(Purpose::Member(owners[0]));
    becomes(&cluster, "two less", purposes.len() - 1).await;

    let (mine, others) = (Purpose::Member(owners[1]), Purpose::Fetch(owners[2]));
    let broken = connect(mine).await;
    broken.close();
    let anew = connect(mine).await;
    assert!(broken.is_closed() && !anew.is_closed());
    assert!(!connect(others).await.is_closed(), "another one's");
    becomes(&cluster, "as many as before", purposes.len() - 1).await;
    cluster.stop().await;
}
