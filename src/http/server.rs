//! Accepts HTTP connections within limits, and routes requests by a match.
//!
//! A client can hold one connection, one header block of 16 KiB and ten seconds of patience; a request
//! body is never read. A connection that ends early ends alone.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use crate::common::net::{self, TcpListener, TcpStream};
use crate::common::tasks::{Kind, Tasks};
use crate::http::{Sources, commands, health, metrics};

/// The largest header block.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// How long a client may take for a header block, also the first one of an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest life of a connection; scrapers come back.
const CONNECTION_LIFE: Duration = Duration::from_secs(600);
/// How long to wait when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server needs besides its sources.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections at one time.
    pub connections_max: usize,
    /// Whether `/commands` is there.
    pub commands: bool,
}

/// Serves until the tasks' shutdown signal. Returns the address at once; the port is open already.
pub fn serve(
    listener: TcpListener,
    sources: Sources,
    options: Options,
    tasks: &Tasks,
) -> std::io::Result<SocketAddr> {
    let address = net::local_address(&listener)?;
    let inner = tasks.clone();
    let state = Arc::new((sources, options));
    tasks.spawn("http", Kind::Connection, async move {
        let permits = Arc::new(Semaphore::new(options.connections_max.max(1)));
        let shutdown = inner.shutdown().clone();
        loop {
            let permit = tokio::select! {
                () = shutdown.stopped() => return,
                permit = permits.clone().acquire_owned() => permit,
            };
            let Ok(permit) = permit else { return };
            let accepted = tokio::select! {
                () = shutdown.stopped() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (state, tasks) = (state.clone(), inner.clone());
                    inner.spawn("http connection", Kind::Connection, async move {
                        connection(stream, peer, state, &tasks).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "accepting an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    info!(%address, "serving HTTP");
    Ok(address)
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    state: Arc<(Sources, Options)>,
    tasks: &Tasks,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let state = state.clone();
        async move {
            let wants_metrics = request.uri().path().trim_end_matches('/') == "/metrics";
            if let (true, Some(prepare)) = (wants_metrics, &state.0.prepare) {
                prepare().await;
            }
            Ok::<_, Infallible>(answer(&request, &state.0, state.1))
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = tasks.shutdown().stopped() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        () = tokio::time::sleep(CONNECTION_LIFE) => return,
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "an HTTP connection ended");
    }
}

fn answer(
    request: &Request<Incoming>,
    sources: &Sources,
    options: Options,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD only\n".into());
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    let wants_json = request
        .headers()
        .get(hyper::header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("json"));
    route(request.uri().path(), wants_json, sources, options)
}

/// The whole site.
fn route(
    path: &str,
    wants_json: bool,
    sources: &Sources,
    options: Options,
) -> Response<Full<Bytes>> {
    match path.trim_end_matches('/') {
        "/livez" | "/healthz" => text(StatusCode::OK, "alive\n".into()),
        "/readyz" => {
            let waits = health::waits_for(sources);
            let status = if waits.is_empty() {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            if wants_json {
                let body = format!("{}\n", health::ready_json(&waits));
                reply(status, "application/json", body)
            } else {
                text(status, health::ready_text(&waits))
            }
        }
        "/metrics" => reply(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            metrics::page(sources),
        ),
        "/commands" if options.commands => {
            reply(StatusCode::OK, "text/html;charset=utf-8", commands::index())
        }
        path => match (path.strip_prefix("/commands/"), &sources.word) {
            (Some(name), Some(word)) if options.commands => {
                let value = commands::run(name, &|asked| word(asked));
                reply(StatusCode::OK, "application/json", commands::pretty(&value))
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /livez, /readyz, /metrics and /commands\n".into(),
            ),
        },
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    reply(status, "text/plain; charset=utf-8", body)
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::broker::status::BrokerStatus;
    use crate::common::net::HostPort;
    use crate::common::shutdown::Shutdown;
    use crate::http::CoordinatorView;

    async fn start(connections_max: usize) -> (HostPort, Tasks) {
        let sources = Sources {
            broker: Some(Arc::new(|| BrokerStatus {
                connected: true,
                ..BrokerStatus::default()
            })),
            coordinator: Some(Arc::new(|| CoordinatorView {
                leader: Some(1),
                serving: true,
                members: 1,
                ..CoordinatorView::default()
            })),
            word: Some(Arc::new(|word| (word == "ruok").then(|| "imok".to_owned()))),
            ..Sources::default()
        };
        let tasks = Tasks::new(Shutdown::new());
        let listener = net::bind(&HostPort::new("127.0.0.1", 0))
            .await
            .expect("a port");
        let options = Options {
            connections_max,
            commands: true,
        };
        let address = serve(listener, sources, options, &tasks).expect("serving");
        (HostPort::new("127.0.0.1", address.port()), tasks)
    }

    async fn ask(address: &HostPort, request: &[u8]) -> String {
        let mut stream = net::connect(address, Duration::from_secs(5))
            .await
            .expect("connected");
        stream.write_all(request).await.expect("sent");
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(5), reading)
            .await
            .expect("in time");
        String::from_utf8(answer).expect("text")
    }

    fn get(path: &str, more: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n").into_bytes()
    }

    #[tokio::test]
    async fn every_page_answers() {
        let (address, tasks) = start(10).await;
        for (path, more, status, content) in [
            ("/livez", "", "200 OK", "alive\n"),
            (
                "/readyz",
                "",
                "503 Service Unavailable",
                "not ready: broker 0 is not registered under /brokers/ids\n",
            ),
            (
                "/readyz",
                "Accept: application/json\r\n",
                "503 Service Unavailable",
                "{\"ready\":false,\"waits_for\":[\"broker 0 is not registered under /brokers/ids\"]}\n",
            ),
            ("/metrics", "", "200 OK", "tripod_raft_has_leader 1\n"),
            ("/commands/ruok", "", "200 OK", "\"command\" : \"ruok\""),
            ("/commands", "", "200 OK", "/commands/monitor"),
            ("/nothing", "", "404 Not Found", "/readyz"),
        ] {
            let answer = ask(&address, &get(path, more)).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{path}: {answer}"
            );
            assert!(answer.contains(content), "{path}: {answer}");
        }
        let answer = ask(
            &address,
            b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        assert!(tasks.stop(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn bad_clients_end_alone_and_an_idle_one_does_not_delay_the_stop() {
        let (address, tasks) = start(10).await;
        let huge = format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(100_000));
        for garbage in [
            &b"\x00\x01\x02\x03garbage\r\n\r\n"[..],
            huge.as_bytes(),
            b"\xff\xff\xff\xff\r\n\r\n",
        ] {
            let mut stream = net::connect(&address, Duration::from_secs(5))
                .await
                .expect("connected");
            let _ = stream.write_all(garbage).await;
            let mut answer = Vec::new();
            let reading = stream.read_to_end(&mut answer);
            let _ = tokio::time::timeout(Duration::from_secs(5), reading)
                .await
                .expect("closed");
            assert!(!answer.starts_with(b"HTTP/1.1 200"));
        }
        let idle = net::connect(&address, Duration::from_secs(5))
            .await
            .expect("connected");
        assert!(ask(&address, &get("/livez", "")).await.contains("alive"));
        assert!(tasks.stop(Duration::from_secs(5)).await);
        drop(idle);
    }

    #[tokio::test]
    async fn connections_over_the_limit_wait_their_turn() {
        let (address, tasks) = start(1).await;
        let first = net::connect(&address, Duration::from_secs(5))
            .await
            .expect("connected");
        let second = {
            let address = address.clone();
            async move { ask(&address, &get("/livez", "")).await }
        };
        let mut second = std::pin::pin!(second);
        let early = tokio::time::timeout(Duration::from_millis(100), second.as_mut()).await;
        assert!(early.is_err(), "served beyond the limit");
        drop(first);
        assert!(second.await.contains("alive"));
        assert!(tasks.stop(Duration::from_secs(5)).await);
    }
}
