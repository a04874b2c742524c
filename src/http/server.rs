//! Accepts HTTP connections within limits, and routes requests by a match.
//!
//! A client can hold one connection, one header block of 16 KiB and five seconds of patience; a request
//! body is never read. A connection that ends early ends alone. When all seats are taken, the connection
//! that has been idle for longest gives way, so that idle clients cannot keep a probe out.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::common::flood::Flood;
use crate::common::net::{self, Descriptors, Peers, TcpListener, TcpStream};
use crate::common::shutdown::Shutdown;
use crate::common::tasks::{Kind, Tasks};
use crate::http::{Sources, commands, health, metrics};

/// The largest header block.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// How long a client may take for a header block, counted from the connection's beginning or from its
/// last answer: also the longest idleness.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// When all seats are taken by busy connections, how often to look for one that became idle.
const SEAT_PAUSE: Duration = Duration::from_millis(50);
/// The longest life of a connection; scrapers come back.
const CONNECTION_LIFE: Duration = Duration::from_secs(600);
/// How long a request that is being answered may take to end when the node stops. A header block that is only
/// half there is not waited for as long as it may take otherwise.
const FAREWELL: Duration = Duration::from_secs(1);
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

/// The connections that wait for a request, longest first, and how to end each.
#[derive(Clone, Debug, Default)]
struct Idle(Arc<Mutex<IdleList>>);

#[derive(Debug, Default)]
struct IdleList {
    next: u64,
    waiting: BTreeMap<u64, Shutdown>,
}

impl Idle {
    fn lock(&self) -> MutexGuard<'_, IdleList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a connection at the young end. The number takes it out again.
    fn enter(&self, evict: &Shutdown) -> u64 {
        let mut list = self.lock();
        let number = list.next;
        list.next += 1;
        list.waiting.insert(number, evict.clone());
        number
    }

    fn leave(&self, number: u64) {
        self.lock().waiting.remove(&number);
    }

    /// Says whether there was one.
    fn evict_oldest(&self) -> bool {
        let oldest = self.lock().waiting.pop_first();
        if let Some((_, evict)) = &oldest {
            evict.stop();
        }
        oldest.is_some()
    }
}

/// One connection's place in the list, left when the connection ends.
struct Place {
    idle: Idle,
    evict: Shutdown,
    number: Mutex<u64>,
}

impl Place {
    fn new(idle: Idle) -> Place {
        let evict = Shutdown::new();
        let number = Mutex::new(idle.enter(&evict));
        Place {
            idle,
            evict,
            number,
        }
    }

    fn busy(&self) {
        let number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        self.idle.leave(*number);
    }

    fn waiting(&self) {
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        *number = self.idle.enter(&self.evict);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.busy();
    }
}

/// A seat for one more connection; somebody idle has to give way if there is none.
async fn seat(permits: &Arc<Semaphore>, idle: &Idle) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = permits.clone().try_acquire_owned() {
        return Some(permit);
    }
    loop {
        idle.evict_oldest();
        let free = permits.clone().acquire_owned();
        if let Ok(permit) = tokio::time::timeout(SEAT_PAUSE, free).await {
            return permit.ok();
        }
    }
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
        let seats = options.connections_max.max(1);
        let permits = Arc::new(Semaphore::new(seats));
        let idle = Idle::default();
        let descriptors = Descriptors::of_process(Peers::Members);
        let (failing, keeping) = (Flood::default(), Flood::default());
        let started = Instant::now();
        let since_ms = move || i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let shutdown = inner.shutdown().clone();
        loop {
            let accepted = tokio::select! {
                () = shutdown.stopped() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let permit = tokio::select! {
                        () = shutdown.stopped() => return,
                        permit = seat(&permits, &idle) => permit,
                    };
                    let Some(permit) = permit else { return };
                    let open = seats - permits.available_permits() - 1;
                    // One that takes the place of another one takes nothing from the logs.
                    if !descriptors.spare(&stream, open) && !idle.evict_oldest() {
                        if let Some(untold) = keeping.tell(since_ms()) {
                            warn!(%peer, untold, "{}", net::KEPT);
                        }
                        continue;
                    }
                    let place = Arc::new(Place::new(idle.clone()));
                    let (state, tasks) = (state.clone(), inner.clone());
                    inner.spawn("http connection", Kind::Connection, async move {
                        connection(stream, peer, state, place, &tasks).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    if let Some(untold) = failing.tell(since_ms()) {
                        warn!(%error, untold, "accepting an HTTP connection");
                    }
                    idle.evict_oldest();
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
    place: Arc<Place>,
    tasks: &Tasks,
) {
    let evict = place.evict.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (state, place) = (state.clone(), place.clone());
        async move {
            place.busy();
            let wants_metrics = request.uri().path().trim_end_matches('/') == "/metrics";
            if let (true, Some(prepare)) = (wants_metrics, &state.0.prepare) {
                prepare().await;
            }
            let answer = answer(&request, &state.0, state.1);
            place.waiting();
            Ok::<_, Infallible>(answer)
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
            match tokio::time::timeout(FAREWELL, serving).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
        () = evict.stopped() => {
            debug!(%peer, "an idle HTTP connection gave way to another one");
            return;
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
    let uri = request.uri();
    let query = uri.query().unwrap_or_default();
    route((uri.path(), query), wants_json, sources, options)
}

/// The whole site.
fn route(
    (path, query): (&str, &str),
    wants_json: bool,
    sources: &Sources,
    options: Options,
) -> Response<Full<Bytes>> {
    match path.trim_end_matches('/') {
        "/livez" | "/healthz" => text(StatusCode::OK, "alive\n".into()),
        "/readyz" => {
            let readiness = health::readiness(sources);
            let status = if readiness.waits_for.is_empty() {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            if wants_json {
                let body = format!("{}\n", health::ready_json(&readiness));
                reply(status, "application/json", body)
            } else {
                text(status, health::ready_text(&readiness))
            }
        }
        "/metrics" => reply(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            metrics::page(sources),
        ),
        "/commands" if options.commands => {
            let names = sources
                .commands
                .as_ref()
                .map(|commands| &commands.names[..]);
            let page = commands::index(names.unwrap_or_default());
            reply(StatusCode::OK, "text/html;charset=utf-8", page)
        }
        path => match (path.strip_prefix("/commands/"), &sources.commands) {
            (Some(name), Some(all)) if options.commands => {
                let value = (all.run)(name, &commands::arguments(query));
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
    use crate::http::Commands;
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
            commands: Some(Commands {
                names: vec!["monitor"],
                run: Arc::new(
                    |name, arguments| serde_json::json!({ "command": name, "arguments": arguments.len() }),
                ),
            }),
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
                "{\"ready\":false,\"waits_for\":[\"broker 0 is not registered under /brokers/ids\"],\"warnings\":[]}\n",
            ),
            ("/metrics", "", "200 OK", "tripod_raft_has_leader 1\n"),
            ("/commands/ruok", "", "200 OK", "\"command\" : \"ruok\""),
            ("/commands/x?a=1&b", "", "200 OK", "\"arguments\" : 2"),
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
    async fn idle_connections_give_way_to_a_probe() {
        for limit in [1, 10] {
            let (address, tasks) = start(limit).await;
            let mut idle = Vec::new();
            for number in 0..300 {
                let mut stream = net::connect(&address, Duration::from_secs(5))
                    .await
                    .expect("connected");
                if number % 2 == 0 {
                    stream.write_all(b"GET /liv").await.expect("sent");
                }
                idle.push(stream);
            }
            for _ in 0..20 {
                let request = get("/livez", "");
                let asking = ask(&address, &request);
                let answer = tokio::time::timeout(Duration::from_secs(2), asking).await;
                assert!(answer.expect("in time").contains("alive"), "{limit}");
            }
            assert!(tasks.stop(Duration::from_secs(5)).await);
        }
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_before_and_between_requests() {
        let (address, tasks) = start(10).await;
        let wait = |first: &'static [u8]| {
            let address = address.clone();
            async move {
                let mut stream = net::connect(&address, Duration::from_secs(5))
                    .await
                    .expect("connected");
                stream.write_all(first).await.expect("sent");
                let mut answer = Vec::new();
                let reading = stream.read_to_end(&mut answer);
                let limit = HEADER_TIMEOUT + Duration::from_secs(3);
                let ended = tokio::time::timeout(limit, reading).await;
                assert!(ended.is_ok(), "open for longer than {limit:?}");
                answer
            }
        };
        let (silent, half, between) = tokio::join!(
            wait(b""),
            wait(b"GET /livez HTTP/1.1\r\nHo"),
            wait(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"),
        );
        assert!(!silent.starts_with(b"HTTP/1.1 200"));
        assert!(!half.starts_with(b"HTTP/1.1 200"));
        assert!(between.starts_with(b"HTTP/1.1 200"));
        assert!(tasks.stop(Duration::from_secs(5)).await);
    }
}
