//! Connections: how many there may be, how long a client may take, and how they end when the server does.
//!
//! Owns the sockets from `accept` to close, and the two answers that no handler can give: 503 when there are too
//! many connections and 408 when a body does not arrive. It does not know what requests mean, limits no body's
//! size and no handler's time, and demands no speed of whoever reads: a handler that streams ends its streams itself.
//! Invariant: nothing that a client sends, leaves unsent or leaves unread holds a connection beyond a deadline; while it
//! is being answered, to take a little now and then is enough.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use crate::access::{Peer, network};
use crate::outgoing::Block;
use crate::places::{Place, Places};
use crate::stall::Stalling;

/// What clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open at the same time, idle ones included.
    pub connections: usize,
    /// Of those, from one address; of IPv6, from one network of 64 bits.
    pub connections_per_address: usize,
    /// From the opening of a connection, or from the last answer on it, to the end of a request's head.
    pub header_deadline: Duration,
    /// From the end of a request's head to the end of its body.
    pub body_deadline: Duration,
    /// From when there is no room for more of what is written to when there is.
    pub write_deadline: Duration,
    /// From the shutdown to the end of the last request.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A process usually may open 1024 files; the store, refusals and outgoing calls need the rest.
            connections: 768,
            // A third: one alone does not keep the others out. Hosts that need more have a proxy, which is not counted.
            connections_per_address: 256,
            // A round trip or two on a bad line, and long enough to keep a gateway's connection warm.
            header_deadline: Duration::from_secs(10),
            // The largest body that is taken has 1 MiB: 35 kB a second. Providers give up after 15 s.
            body_deadline: Duration::from_secs(30),
            // Lines that are lost and found again do so sooner. Streams have more to say each 15 s, but this is not about how
            // long somebody says nothing.
            write_deadline: Duration::from_secs(30),
            // Orchestrators kill after 30 s; what is left is for the store to close.
            drain: Duration::from_secs(20),
        }
    }
}

/// The most refusals under way at once; beyond, connections are closed without a word. Together with the default
/// of `Limits::connections` below 1024 open files.
const REFUSALS_MAX: usize = 128;

/// How long a refused client may take to ask, and then again to take the answer, if the deadline for heads is not
/// shorter: a round trip on a bad line.
const REFUSAL_DEADLINE_MAX: Duration = Duration::from_secs(1);

/// How long to wait when the process can accept nothing, as without file descriptors: connections must close first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Heads of more bytes are answered 431. Gateways allow 8 to 32 KiB; the library's own 400 KiB, times the
/// connections, would be a third of a gigabyte for the asking.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// By which connections come in.
pub struct Door {
    pub limits: Limits,
    /// Without it, nothing is encrypted.
    pub tls: Option<TlsAcceptor>,
    /// Addresses whose connections are not counted one by one: proxies, which connect for others.
    pub uncounted: Vec<Block>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Door({:?}, {} TLS)", self.limits, if self.tls.is_some() { "with" } else { "without" })
    }
}

/// Answers requests by `handle` until `shutdown`, then lets those under way finish. `on_count` is told how many
/// connections are open, whenever that has changed. Returns how many connections were
/// cut off because they did not finish within `limits.drain`.
pub async fn serve<H, F>(
    listener: TcpListener,
    handle: H,
    door: Door,
    on_count: impl Fn(usize),
    shutdown: impl Future<Output = ()>,
) -> usize
where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Door { limits, tls, uncounted } = door;
    let places = Arc::new(Places::default());
    // Tells each connection to stop by being dropped.
    let (stop, stopping) = watch::channel(());
    // The sets' lengths are the counts that are limited: a connection counts until its task has been reaped.
    let mut connections = JoinSet::new();
    let mut refusals = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        on_count(connections.len());
        tokio::select! {
            // Shutdown first; and those that have ended before those that would take their places.
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => report(ended),
            Some(ended) = refusals.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let peer = Peer(from.ip().to_canonical());
                    let is_counted = !uncounted.iter().any(|block| block.contains(peer.0));
                    let most = if is_counted { limits.connections_per_address } else { usize::MAX };
                    let free = connections.len() < limits.connections;
                    let place = free.then(|| places.take(network(peer.0), most)).flatten();
                    match (place, &tls) {
                        (Some(place), _) => {
                            let (tls, stopping) = (tls.clone(), stopping.clone());
                            connections.spawn(open(stream, tls, peer, place, handle.clone(), limits, stopping));
                        }
                        // Without a handshake nothing can be said to a client that expects one.
                        (None, None) if refusals.len() < REFUSALS_MAX => {
                            refusals.spawn(refuse(stream, limits.header_deadline.min(REFUSAL_DEADLINE_MAX)));
                        }
                        (None, _) => tracing::debug!(%from, "dropped a connection: too many"),
                    }
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "failed to accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drop(stop);
    drain(connections, limits.drain).await
}

/// The client is gone before it was accepted; the next may be there already.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    [ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted].contains(&error.kind())
}

/// A handler that panics takes its connection with it and no other.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}

async fn drain(mut connections: JoinSet<()>, patience: Duration) -> usize {
    let all = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if timeout(patience, all).await.is_ok() {
        return 0;
    }
    while let Some(ended) = connections.try_join_next() {
        report(ended);
    }
    // The rest is cut off as the set is dropped.
    connections.len()
}

/// A connection from its handshake, if there is to be one, to its end.
async fn open<H, F>(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    peer: Peer,
    _place: Place<IpAddr>,
    handle: H,
    limits: Limits,
    mut stopping: watch::Receiver<()>,
) where
    H: Fn(Request<Body>) -> F,
    F: Future<Output = Response<Body>>,
{
    // Answers are small and whole: waiting to fill a packet only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "failed to set TCP_NODELAY");
    }
    let stream = Stalling::new(stream, limits.write_deadline);
    let Some(tls) = tls else { return converse(stream, peer, handle, limits, stopping).await };
    let shaken = tokio::select! {
        shaken = timeout(limits.header_deadline, tls.accept(stream)) => shaken,
        _ = stopping.changed() => return,
    };
    match shaken {
        Ok(Ok(stream)) => converse(stream, peer, handle, limits, stopping).await,
        Ok(Err(error)) => tracing::debug!(%error, peer = %peer.0, "a handshake failed"),
        Err(_) => tracing::debug!(peer = %peer.0, "a handshake took too long"),
    }
}

/// All requests of one connection.
async fn converse<H, F>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    handle: H,
    limits: Limits,
    mut stopping: watch::Receiver<()>,
) where
    H: Fn(Request<Body>) -> F,
    F: Future<Output = Response<Body>>,
{
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        answer(&handle, request, limits.body_deadline)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_deadline)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// What is made of a request, or 408 if its body did not arrive in time.
async fn answer<H, F>(
    handle: &H,
    request: Request<Incoming>,
    body_deadline: Duration,
) -> Result<Response<Body>, Infallible>
where
    H: Fn(Request<Body>) -> F,
    F: Future<Output = Response<Body>>,
{
    let (head, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(handle(Request::from_parts(head, Body::empty())).await);
    }
    let late = Arc::new(AtomicBool::new(false));
    let body =
        TimedBody { body, deadline: Instant::now() + body_deadline, alarm: None, late: Arc::clone(&late) };
    let response = handle(Request::from_parts(head, Body::new(body))).await;
    if !late.load(Ordering::Relaxed) {
        return Ok(response);
    }
    // Whatever the handler made of the broken body, this is what happened.
    let problem = problem(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body did not arrive in time");
    let mut response = Response::new(Body::from(problem));
    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// The error of a request's body that took longer than `Limits::body_deadline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyTooSlow;

impl fmt::Display for BodyTooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body did not arrive in time")
    }
}

impl Error for BodyTooSlow {}

/// A body that fails with `BodyTooSlow` once its deadline is past, also if bytes keep coming.
struct TimedBody {
    body: Incoming,
    deadline: Instant,
    /// Wakes whoever waits for bytes when the deadline is past. Nearly all bodies are there when they are asked for.
    alarm: Option<Pin<Box<Sleep>>>,
    late: Arc<AtomicBool>,
}

impl hyper::body::Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if Instant::now() < self.deadline {
            let frame = Pin::new(&mut self.body).poll_frame(context);
            if frame.is_ready() {
                return frame.map_err(BoxError::from);
            }
            let deadline = self.deadline;
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        self.late.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(BodyTooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Answers 503 to whatever is asked and closes.
async fn refuse(mut stream: TcpStream, deadline: Duration) {
    // Some clients take an answer that comes before the question for noise. A silent one is told all the same.
    let asked = timeout(deadline, read_head(&mut stream)).await;
    let answered = timeout(deadline, async {
        stream.write_all(refusal().as_bytes()).await?;
        stream.shutdown().await?;
        // A socket that is closed with bytes unread is reset, and the reset can overtake the answer.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    });
    let answered = answered.await;
    tracing::debug!(?asked, ?answered, "refused a connection: too many are open");
}

/// Reads to the end of a request's head, of the stream or of patience for long heads.
async fn read_head(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") && head.len() < 8 * 1024 {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(())
}

fn refusal() -> String {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let body = problem(status, "overloaded", "too many connections are open");
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {PROBLEM_TYPE}\r\ncontent-length: {length}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n{body}"
    )
}

/// RFC 9457.
const PROBLEM_TYPE: &str = "application/problem+json";

fn problem(status: StatusCode, code: &str, detail: &str) -> String {
    serde_json::json!({
        "type": format!("urn:statewright:problem:{code}"),
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
        "code": code,
        "retryable": true,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use axum::Router;
    use axum::routing::{get, post};
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::tls::Tls;

    /// Far longer than anything takes here: a test that reaches it has failed.
    const NEVER: Duration = Duration::from_secs(20);
    /// For a deadline that is to pass.
    const SHORT: Duration = Duration::from_millis(50);
    /// For a deadline that is to pass, but only after the client has sent what it has to, on a busy machine.
    const UNHURRIED: Duration = Duration::from_millis(250);

    const PATIENT: Limits = Limits {
        connections: 8,
        connections_per_address: 8,
        header_deadline: NEVER,
        body_deadline: NEVER,
        write_deadline: NEVER,
        drain: NEVER,
    };

    const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    struct Server {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        served: JoinHandle<usize>,
    }

    async fn start(router: Router, limits: Limits) -> Server {
        start_behind(router, Door { limits, tls: None, uncounted: Vec::new() }).await
    }

    async fn start_behind(router: Router, door: Door) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let handle = move |request| {
            let answer = TowerToHyperService::new(router.clone()).call(request);
            async { answer.await.unwrap() }
        };
        let served = tokio::spawn(serve(listener, handle, door, |_| {}, async {
            let _ = stopped.await;
        }));
        Server { address, stop, served }
    }

    /// `GET /` says "hello"; `POST /` says how many bytes came.
    fn router() -> Router {
        let count = async |body: Bytes| format!("{} bytes", body.len());
        Router::new().route("/", get(async || "hello").merge(post(count)))
    }

    /// A route `/slow` that says when a request has come in, and waits to be told to answer "done".
    fn slow() -> (Router, oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (arrive, arrived) = oneshot::channel();
        let (release, released) = oneshot::channel();
        let once = Arc::new(Mutex::new(Some((arrive, released))));
        let handler = async move || {
            let (arrive, released): (oneshot::Sender<()>, oneshot::Receiver<()>) =
                once.lock().unwrap().take().unwrap();
            arrive.send(()).unwrap();
            released.await.unwrap();
            "done"
        };
        (router().route("/slow", get(handler)), arrived, release)
    }

    const GET_SLOW: &str = "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";

    impl Server {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn send(&self, text: &str) -> TcpStream {
            let mut stream = self.connect().await;
            stream.write_all(text.as_bytes()).await.unwrap();
            stream
        }
    }

    /// What comes until `end` has come, or until the server closes.
    async fn read_until(stream: &mut TcpStream, end: &str) -> String {
        let mut bytes = Vec::new();
        let read = async {
            while !String::from_utf8_lossy(&bytes).contains(end)
                && stream.read_buf(&mut bytes).await.unwrap_or(0) > 0
            {}
        };
        timeout(NEVER, read).await.expect("the server says nothing");
        String::from_utf8(bytes).unwrap()
    }

    async fn read_to_close(stream: &mut TcpStream) -> String {
        read_until(stream, "\u{0}never").await
    }

    /// Writes `drop` again and again until the server answers or closes.
    async fn dribble(stream: &mut TcpStream, drop: &str) -> String {
        let wet = async {
            while stream.write_all(drop.as_bytes()).await.is_ok() {
                let answered = timeout(SHORT / 10, stream.readable()).await;
                if answered.is_ok() {
                    break;
                }
            }
        };
        timeout(NEVER, wet).await.expect("the server goes on");
        read_to_close(stream).await
    }

    #[tokio::test]
    async fn requests_are_answered_on_one_connection() {
        let server = start(router(), PATIENT).await;
        let mut stream = server.send(GET).await;
        assert!(read_until(&mut stream, "hello").await.contains(" 200 OK\r"));
        let post = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc";
        stream.write_all(post.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "bytes").await;
        assert!(answer.ends_with("\r\n\r\n3 bytes"), "{answer}");
    }

    #[tokio::test]
    async fn silent_connection_is_closed() {
        let limits = Limits { header_deadline: SHORT, ..PATIENT };
        let server = start(router(), limits).await;
        for sent in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\n"] {
            let mut stream = server.send(sent).await;
            assert_eq!(read_to_close(&mut stream).await, "", "{sent}");
        }
    }

    #[tokio::test]
    async fn dribbling_head_is_closed() {
        let limits = Limits { header_deadline: SHORT, ..PATIENT };
        let server = start(router(), limits).await;
        let mut stream = server.send("GET / HTTP/1.1\r\nx: ").await;
        assert_eq!(dribble(&mut stream, "y").await, "");
    }

    #[tokio::test]
    async fn idle_connection_is_closed_after_its_answer() {
        let limits = Limits { header_deadline: UNHURRIED, ..PATIENT };
        let server = start(router(), limits).await;
        let mut stream = server.send(GET).await;
        let answer = read_to_close(&mut stream).await;
        assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    }

    #[tokio::test]
    async fn oversized_head_is_refused() {
        let server = start(router(), PATIENT).await;
        let mut stream = server.send("GET / HTTP/1.1\r\nx: ").await;
        let answer = dribble(&mut stream, &"y".repeat(1024)).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[tokio::test]
    async fn slow_body_is_answered_408_and_closed() {
        let limits = Limits { body_deadline: SHORT, ..PATIENT };
        let server = start(router(), limits).await;
        let head = "POST / HTTP/1.1\r\nhost: x\r\n";
        let mut silent = server.send(&format!("{head}content-length: 9\r\n\r\nabc")).await;
        let mut dribbling = server.send(&format!("{head}transfer-encoding: chunked\r\n\r\n")).await;
        let silent = read_to_close(&mut silent).await;
        let dribbling = dribble(&mut dribbling, "1\r\nx\r\n").await;
        for answer in [silent, dribbling] {
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("\r\nconnection: close"), "{head}");
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let expected = serde_json::json!({"type": "urn:statewright:problem:body_timeout", "title": "Request Timeout", "status": 408,
                "detail": "the body did not arrive in time", "code": "body_timeout", "retryable": true});
            assert_eq!(body, expected);
        }
    }

    /// Asks again and again and reads nothing, until the server has had enough.
    async fn ask_without_reading(stream: &mut (impl AsyncWrite + Unpin)) {
        let ask = async { while stream.write_all(GET.as_bytes()).await.is_ok() {} };
        timeout(NEVER, ask).await.expect("the server waits for ever");
    }

    #[tokio::test]
    async fn who_asks_and_reads_nothing_is_left() {
        let limits = Limits { write_deadline: SHORT, ..PATIENT };
        let large = Router::new().route("/", get(async || vec![b'x'; 1024 * 1024]));
        let server = start(large.clone(), limits).await;
        ask_without_reading(&mut server.connect().await).await;

        let tls = Some(test_tls().acceptor().unwrap());
        let server = start_behind(large, Door { limits, tls, uncounted: Vec::new() }).await;
        let roots = CertificateDer::from_pem_file(fixture("test_only_ca.pem")).unwrap();
        let mut store = RootCertStore::empty();
        store.add(roots).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(store)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let mut stream = connector.connect(name, server.connect().await).await.unwrap();
        ask_without_reading(&mut stream).await;
    }

    #[tokio::test]
    async fn who_takes_an_answer_by_and_by_is_given_all_of_it() {
        let limits = Limits { write_deadline: UNHURRIED, ..PATIENT };
        let large = Router::new().route("/", get(async || vec![b'x'; 32 * 1024 * 1024]));
        let server = start(large, limits).await;
        let mut stream = server.send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let (mut all, mut some) = (0, vec![0; 4 * 1024 * 1024]);
        // Each part comes sooner than the deadline, and all of them later.
        let mut ticks = tokio::time::interval(UNHURRIED / 4);
        loop {
            ticks.tick().await;
            match stream.read(&mut some).await.unwrap() {
                0 => break,
                count => all += count,
            }
        }
        assert!(all > 32 * 1024 * 1024, "{all}");
    }

    #[tokio::test]
    async fn connection_over_the_limit_is_answered_503() {
        let limits = Limits { connections: 1, header_deadline: UNHURRIED, ..PATIENT };
        let (router, arrived, release) = slow();
        let server = start(router, limits).await;
        let mut first = server.send(GET_SLOW).await;
        arrived.await.unwrap();

        for sent in [
            GET,
            // Nothing at all, and more than is read of a head.
            "",
            &format!("POST / HTTP/1.1\r\ncontent-length: 100000\r\n\r\n{}", "x".repeat(100_000)),
        ] {
            let mut second = server.send(sent).await;
            let answer = read_to_close(&mut second).await;
            assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let length = format!("\r\ncontent-length: {}\r\n", body.len());
            for header in ["\r\nretry-after: 1\r\n", "\r\nconnection: close", &length] {
                assert!(head.contains(header), "{head}");
            }
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["code"], "overloaded");
        }

        release.send(()).unwrap();
        assert!(read_to_close(&mut first).await.ends_with("done"));
        // The server notices the free place some time after the client has left it.
        let again = async {
            let get = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            while !read_to_close(&mut server.send(get).await).await.ends_with("hello") {}
        };
        timeout(NEVER, again).await.expect("the place stays taken");
    }

    #[tokio::test]
    async fn one_address_does_not_take_all_places_unless_it_is_a_proxy() {
        let limits = Limits { connections_per_address: 1, ..PATIENT };
        let loopback = Block::parse("127.0.0.0/8").unwrap();
        for (uncounted, expected) in [(vec![], " 503 "), (vec![loopback], " 200 ")] {
            let (router, arrived, release) = slow();
            let server = start_behind(router, Door { limits, tls: None, uncounted }).await;
            let mut first = server.send(GET_SLOW).await;
            arrived.await.unwrap();
            let get = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            let answer = read_to_close(&mut server.send(get).await).await;
            assert!(answer.contains(expected), "{answer}");
            release.send(()).unwrap();
            assert!(read_until(&mut first, "done").await.ends_with("done"));
            drop(first);
            // The place is free again some time after the client has left it.
            let again =
                async { while !read_to_close(&mut server.send(get).await).await.ends_with("hello") {} };
            timeout(NEVER, again).await.expect("the place stays taken");
        }
    }

    fn fixture(name: &str) -> String {
        format!("{}/src/tls/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    fn test_tls() -> Arc<Tls> {
        Tls::open(fixture("test_only_a.pem").as_ref(), fixture("test_only_a.key.pem").as_ref()).unwrap()
    }

    #[tokio::test]
    async fn who_says_nothing_of_a_handshake_is_left_and_keeps_nobody_waiting() {
        let limits = Limits { header_deadline: SHORT, ..PATIENT };
        let tls = test_tls();
        let door = |limits| Door { limits, tls: Some(tls.acceptor().unwrap()), uncounted: Vec::new() };
        let server = start_behind(router(), door(limits)).await;
        let mut silent = server.send("").await;
        assert_eq!(read_to_close(&mut silent).await, "");
        // A client that does not know of TLS is told nothing that it could take for an answer.
        let mut plain = server.send(GET).await;
        assert!(!read_to_close(&mut plain).await.contains("HTTP/"));
        // Nor does one in a handshake hold a server up that stops.
        let server = start_behind(router(), door(PATIENT)).await;
        let mut silent = server.send("").await;
        server.stop.send(()).unwrap();
        assert_eq!(read_to_close(&mut silent).await, "");
        assert_eq!(server.served.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn panic_costs_one_connection() {
        async fn broken() {
            panic!("on purpose");
        }
        let limits = Limits { connections: 1, ..PATIENT };
        let server = start(router().route("/broken", get(broken)), limits).await;
        let mut stream = server.send("GET /broken HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(read_to_close(&mut stream).await, "");
        server.stop.send(()).unwrap();
        assert_eq!(server.served.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn request_under_way_is_finished_before_the_server_ends() {
        let (router, arrived, release) = slow();
        let server = start(router, PATIENT).await;
        let mut slow = server.send(GET_SLOW).await;
        arrived.await.unwrap();
        let mut idle = server.send(GET).await;
        read_until(&mut idle, "hello").await;

        server.stop.send(()).unwrap();
        // The idle one is closed at once, which also shows that the shutdown has begun.
        assert_eq!(read_to_close(&mut idle).await, "");
        assert!(TcpStream::connect(server.address).await.is_err());
        release.send(()).unwrap();
        let answer = read_to_close(&mut slow).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\ndone"), "{answer}");
        assert_eq!(server.served.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn request_that_outlasts_the_drain_is_cut_off_and_counted() {
        let (router, arrived, release) = slow();
        let limits = Limits { drain: SHORT, ..PATIENT };
        let server = start(router, limits).await;
        let mut slow = server.send(GET_SLOW).await;
        arrived.await.unwrap();
        server.stop.send(()).unwrap();
        assert_eq!(server.served.await.unwrap(), 1);
        assert_eq!(read_to_close(&mut slow).await, "");
        drop(release);
    }

    #[test]
    fn only_errors_of_the_process_pause_accepting() {
        // Numbers of Linux: ECONNABORTED, ECONNRESET, EINTR; EMFILE, ENFILE, ENOBUFS, ENOMEM.
        let table =
            [(103, true), (104, true), (4, true), (24, false), (23, false), (105, false), (12, false)];
        for (number, expected) in table {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(is_of_the_client(&error), expected, "{error}");
        }
    }
}
