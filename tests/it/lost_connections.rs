//! Connections to ZooKeeper that break while a broker starts: it starts all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kafka_protocol::ResponseError;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tripod::client::ClientError;
use tripod::client::admin::NewTopic;

use crate::cluster::{Plan, free_port};

/// What the server may say over the first connection before it breaks; each later one may say a quarter more.
const FIRST: u64 = 60;

/// Stands between a broker and its ZooKeeper, and lets no connection live as long as it wants to.
async fn breaker(listener: TcpListener, server: u16, broken: Arc<AtomicU32>) {
    let (mut limit, mut lines) = (FIRST, JoinSet::new());
    while let Ok((mut client, _)) = listener.accept().await {
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else {
            continue;
        };
        limit += limit / 4;
        let broken = broken.clone();
        lines.spawn(async move {
            let (mut said, mut answer) = client.split();
            let (answered, mut asked) = server.split();
            tokio::select! {
                _ = copy(&mut said, &mut asked) => {}
                _ = async {
                    let _ = copy(&mut answered.take(limit), &mut answer).await;
                    let _ = answer.flush().await;
                } => {}
            }
            broken.fetch_add(1, Ordering::Relaxed);
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_starts_though_its_connections_to_zookeeper_break() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let between = listener.local_addr().expect("bound").to_string();
    let (server, broken) = (free_port(), Arc::<AtomicU32>::default());
    let mut breaking = JoinSet::new();
    breaking.spawn(breaker(listener, server, broken.clone()));
    let plan = Plan::nodes(1)
        .set("coordinator.clientPort", &server.to_string())
        .set("broker.zookeeper.connect", &between);
    let mut cluster = plan.start().await;
    assert!(broken.load(Ordering::Relaxed) > 3, "they broke: {broken:?}");
    let client = cluster.client();
    // A connection may break over this, too, after it was done: then the client's second try is told so.
    let topic = NewTopic {
        name: "t".to_owned(),
        ..NewTopic::default()
    };
    match client.admin.create_topic(&topic).await {
        Ok(_) => {}
        Err(ClientError::Answer { error, .. }) => {
            assert_eq!(error, ResponseError::TopicAlreadyExists);
        }
        Err(error) => panic!("{error}"),
    }
    cluster.stop().await;
    breaking.shutdown().await;
}
