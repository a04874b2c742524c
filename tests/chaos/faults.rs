//! The faults of processes, each over the same load, each judged at the end (reliability: Q1 to Q6, A1, D2).

use std::time::Duration;

use crate::check::history::What;
use crate::run::{ONE_AT_A_TIME, Run, from_a_seed};
use crate::workload::PARTITIONS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_each_leader_in_turn() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut run = Run::local("kill -9 of each leader").await;
    for partition in 0..PARTITIONS {
        let leader = run.workload.leader(partition).await;
        run.kill_and_return(leader).await;
    }
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_and_an_immediate_restart() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut run = Run::local("kill -9, at once back").await;
    for _ in 0..3 {
        let leader = run.workload.leader(0).await;
        run.workload
            .fault(&format!("kill -9 of node {leader}, and start"));
        run.nodes.kill(leader);
        run.nodes.spawn(leader);
        run.nodes.ready(leader).await;
        run.workload.goes_on().await;
        run.workload.healed().await;
    }
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_all_at_once() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut run = Run::local("kill -9 of all").await;
    for _ in 0..3 {
        run.workload.fault("kill -9 of all");
        for index in 0..3 {
            run.nodes.kill(index);
        }
        for index in 0..3 {
            run.nodes.spawn(index);
        }
        for index in 0..3 {
            run.nodes.ready(index).await;
        }
        run.workload.goes_on().await;
        run.workload.healed().await;
    }
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_does_not_acknowledge_from_the_past() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut run = Run::local("SIGSTOP of a leader").await;
    for seconds in [1, 25] {
        let leader = run.workload.leader(0).await;
        run.workload
            .fault(&format!("pause of node {leader} for {seconds} s"));
        run.nodes.pause(leader);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        run.nodes.resume(leader);
        run.workload.goes_on().await;
        run.nodes.ready(leader).await;
        run.workload.healed().await;
    }
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_no_request() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut run = Run::local("rolling restart").await;
    for index in 0..3 {
        run.workload.fault(&format!("SIGTERM of node {index}"));
        run.nodes.stop(index).await;
        run.returns(index).await;
    }
    let events = run.workload.recorder.events();
    let given_up = events
        .iter()
        .filter(|event| matches!(event.what, What::Err { .. }));
    assert_eq!(given_up.count(), 0);
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_from_a_seed() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (rng, end) = from_a_seed();
    let mut run = Run::local("faults from a seed").await;
    while tokio::time::Instant::now() < end {
        let index = usize::try_from(rng.next_u64() % 3).expect("small");
        match rng.next_u64() % 4 {
            0 => run.kill_and_return(index).await,
            1 => {
                run.workload
                    .fault(&format!("kill -9 of node {index}, and start"));
                run.nodes.kill(index);
                run.nodes.spawn(index);
                run.nodes.ready(index).await;
            }
            2 => {
                let pause = Duration::from_millis(100 + rng.next_u64() % 3_000);
                run.workload
                    .fault(&format!("pause of node {index} for {pause:?}"));
                run.nodes.pause(index);
                tokio::time::sleep(pause).await;
                run.nodes.resume(index);
            }
            _ => {
                run.workload.fault(&format!("SIGTERM of node {index}"));
                run.nodes.stop(index).await;
                run.nodes.spawn(index);
                run.nodes.ready(index).await;
            }
        }
        run.workload.goes_on().await;
    }
    run.judge().await;
}
