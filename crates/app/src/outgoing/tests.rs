//! Requests against servers on this machine that answer, break off, or keep silent.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::*;

/// A server that hands every connection to `serve`, and says what each request's head and body were.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (said, heard) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let request = read_request(&stream);
            if said.send(request).is_err() {
                return;
            }
            serve(stream);
        }
    });
    (port, heard)
}

fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {
        let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
        if let Some(digits) = line.strip_prefix("content-length:") {
            length = digits.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap_or_default();
    head + &String::from_utf8_lossy(&body)
}

fn answering(response: &'static str) -> impl Fn(TcpStream) {
    move |mut stream| stream.write_all(response.as_bytes()).unwrap_or_default()
}

fn to(port: u16) -> Request {
    Request {
        url: format!("http://127.0.0.1:{port}/hook?token=hidden"),
        headers: vec![("x-key".into(), "k1".into())],
        content_type: "text/plain".into(),
        body: b"hello".to_vec(),
        timeout: Duration::from_secs(10),
    }
}

fn local() -> Outgoing {
    Outgoing::new(Allowed::loopback())
}

#[test]
fn what_is_sent_arrives_and_the_response_comes_back() {
    let (port, heard) = server(answering(
        "HTTP/1.1 429 Slow\r\nretry-after: 17\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlate",
    ));
    let response = local().post(&to(port)).unwrap();
    let expected = Response { status: 429, retry_after: Some(17), body: b"late".to_vec(), broke_off: false };
    assert_eq!(response, expected);
    let request = heard.recv().unwrap();
    assert!(request.starts_with("POST /hook?token=hidden HTTP/1.1\r\n"), "{request}");
    assert!(
        request.contains("x-key: k1\r\n") && request.contains("content-type: text/plain\r\n"),
        "{request}"
    );
    assert!(request.contains("user-agent: statewright/") && request.ends_with("\r\n\r\nhello"), "{request}");
    let got = local().get(&to(port)).unwrap();
    assert_eq!(got.status, 429);
    assert!(heard.recv().unwrap().starts_with("GET /hook"));
}

#[test]
fn an_address_is_refused_until_it_is_allowed() {
    let (port, heard) = server(answering("HTTP/1.1 204 Done\r\nconnection: close\r\n\r\n"));
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1"] {
        let request = Request { url: format!("http://{host}:{port}/"), ..to(port) };
        let refused = Outgoing::new(Allowed::public()).post(&request);
        assert!(matches!(refused, Err(SendError::Forbidden(_))), "{host}: {refused:?}");
    }
    assert!(heard.try_recv().is_err(), "a refused request was sent");
    assert_eq!(local().post(&to(port)).unwrap().status, 204);
    assert!(heard.recv().is_ok());
}

#[test]
fn what_is_no_sensible_request_is_never_sent() {
    let (port, heard) = server(answering("HTTP/1.1 204 Done\r\nconnection: close\r\n\r\n"));
    let local = local();
    for (url, part) in [
        (format!("ftp://127.0.0.1:{port}/"), "does not begin with http"),
        (format!("file:///etc/passwd#{port}"), "the URL"),
        (format!("http://user:secret@127.0.0.1:{port}/"), "credentials"),
        ("/hook".to_owned(), "the URL"),
        ("http://".to_owned(), "the URL"),
        (format!("http://127.0.0.1:{port}/a b"), "the URL is none"),
    ] {
        let Err(SendError::Forbidden(problem)) = local.post(&Request { url: url.clone(), ..to(port) }) else {
            panic!("{url} was not forbidden");
        };
        assert!(problem.contains(part) && !problem.contains("secret"), "{url}: {problem}");
    }
    for header in [("x key", "a"), ("x-key", "a\r\nx-other: b"), ("", "a")] {
        let headers = vec![(header.0.to_owned(), header.1.to_owned())];
        let refused = local.post(&Request { headers, ..to(port) });
        assert!(matches!(refused, Err(SendError::Forbidden(_))), "{header:?}: {refused:?}");
    }
    assert!(heard.try_recv().is_err(), "a refused request was sent");
}

#[test]
fn where_nobody_listens_nothing_was_sent() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = local().post(&to(free));
    assert!(matches!(refused, Err(SendError::NotSent(_))), "{refused:?}");
    let nowhere = Request { url: "http://nowhere.invalid/".into(), ..to(free) };
    let unresolved = local().post(&nowhere);
    assert!(matches!(unresolved, Err(SendError::NotSent(_))), "{unresolved:?}");
}

/// The other end speaks no TLS, or closes while it is being agreed on: the request itself never left.
#[test]
fn without_tls_nothing_was_sent() {
    let (port, _heard) = server(answering("HTTP/1.1 400 Plain\r\nconnection: close\r\n\r\n"));
    let request = Request { url: format!("https://localhost:{port}/"), ..to(port) };
    let failed = local().post(&request);
    assert!(matches!(failed, Err(SendError::NotSent(_))), "{failed:?}");
}

#[test]
fn a_connection_that_closes_without_an_answer_leaves_it_unknown() {
    let (port, heard) = server(drop);
    let broken = local().post(&to(port));
    let Err(SendError::Unknown(detail)) = broken else { panic!("{broken:?}") };
    assert!(!detail.contains("hidden"), "{detail}");
    assert!(heard.recv().unwrap().ends_with("hello"));
}

#[test]
fn a_server_that_never_answers_leaves_it_unknown_in_time() {
    let (held, _hold) = channel();
    let (port, _heard) = server(move |stream| held.send(stream).unwrap_or_default());
    let began = Instant::now();
    let late = local().post(&Request { timeout: Duration::from_millis(300), ..to(port) });
    let Err(SendError::Unknown(detail)) = late else { panic!("{late:?}") };
    assert!(detail.contains("did not answer in time"), "{detail}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// What an earlier request sent says nothing of the next one's.
#[test]
fn each_request_is_judged_by_itself() {
    let (port, _heard) = server(drop);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let local = local();
    assert!(matches!(local.post(&to(port)), Err(SendError::Unknown(_))));
    assert!(matches!(local.post(&to(free)), Err(SendError::NotSent(_))));
}

#[test]
fn redirects_are_not_followed() {
    let (port, heard) = server(answering(
        "HTTP/1.1 307 There\r\nlocation: /other\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ));
    assert_eq!(local().post(&to(port)).unwrap().status, 307);
    assert!(heard.recv().is_ok());
    assert!(heard.try_recv().is_err(), "a redirect was followed");
}

#[test]
fn of_a_response_without_end_only_the_beginning_is_read() {
    let (port, _heard) = server(|mut stream| {
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
        let mut going = stream.write_all(head.as_bytes());
        while going.is_ok() {
            going = stream.write_all(&[b'x'; 4096]);
        }
    });
    let response = local().post(&to(port)).unwrap();
    assert_eq!((response.status, response.body.len()), (200, 1024 * 1024));
}

/// The status is what was decided; that the body broke off does not undo it.
#[test]
fn a_response_whose_body_breaks_off_keeps_its_status() {
    let (port, _heard) =
        server(answering("HTTP/1.1 201 Made\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{\"a\""));
    let response = local().post(&to(port)).unwrap();
    assert_eq!((response.status, &response.body[..]), (201, &b"{\"a\""[..]));
}
