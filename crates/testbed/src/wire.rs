//! The few words of Redis's protocol that it takes to ask whether a server is ready, and to form a cluster.
//!
//! Not a client for anything else: every question has a connection of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::Error;

/// A server on loopback that has not answered by then is stuck or paused.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Sends one command and returns its answer as text: elements of arrays on lines of their own, nil as nothing.
pub fn ask(port: u16, words: &[&str]) -> Result<String, Error> {
    let name = words.first().copied().unwrap_or_default();
    let failed = |error: std::io::Error| Error::new(format!("{name} to Redis at 127.0.0.1:{port}: {error}"));
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX)).map_err(failed)?;
    stream.write_all(&command(words)).map_err(failed)?;
    match read_answer(&mut BufReader::new(stream)).map_err(failed)? {
        Ok(answer) => Ok(answer),
        Err(refusal) => Err(Error::new(format!("{name} to Redis at 127.0.0.1:{port}: {refusal}"))),
    }
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// The inner error is the server's own.
fn read_answer(reader: &mut impl BufRead) -> std::io::Result<Result<String, String>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line.trim_end_matches(['\r', '\n']);
    let Some(rest) = line.get(1..) else {
        return Err(std::io::Error::other("the connection was closed without an answer"));
    };
    let length = rest.parse::<i64>().unwrap_or(-1);
    match line.as_bytes()[0] {
        b'-' => Ok(Err(rest.to_owned())),
        b'$' => {
            let Ok(length) = usize::try_from(length) else {
                return Ok(Ok(String::new()));
            };
            let mut bytes = vec![0; length + 2];
            reader.read_exact(&mut bytes)?;
            bytes.truncate(length);
            Ok(Ok(String::from_utf8_lossy(&bytes).into_owned()))
        }
        b'*' => {
            let mut elements = Vec::new();
            for _ in 0..length {
                match read_answer(reader)? {
                    Ok(element) => elements.push(element),
                    refusal => return Ok(refusal),
                }
            }
            Ok(Ok(elements.join("\n")))
        }
        // Simple strings and integers.
        _ => Ok(Ok(rest.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_counted_strings() {
        assert_eq!(command(&["SET", "é", ""]), "*3\r\n$3\r\nSET\r\n$2\r\né\r\n$0\r\n\r\n".as_bytes());
    }

    #[test]
    fn answers_of_every_kind_are_read_as_text() {
        let check = |bytes: &str, expected: Result<&str, &str>| {
            let read = read_answer(&mut bytes.as_bytes()).unwrap();
            assert_eq!(read.as_deref(), expected.map_err(str::to_owned).as_deref(), "{bytes:?}");
        };
        check("+OK\r\n", Ok("OK"));
        check(":12\r\n", Ok("12"));
        check("$4\r\na\r\nb\r\n", Ok("a\r\nb"));
        check("$-1\r\n", Ok(""));
        check("*2\r\n$1\r\na\r\n*1\r\n:7\r\n", Ok("a\n7"));
        check("-LOADING wait\r\n", Err("LOADING wait"));
        assert!(read_answer(&mut "".as_bytes()).is_err());
    }
}
