//! One client's connection: requests in, faults or answers out.

use super::{Fault, Seen, Shared, lock};
use crate::http::wire::{Head, chunks};
use crate::wait;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(60);

pub(super) fn connection(shared: &Arc<Shared>, stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(BOUND));
    let _ = stream.set_write_timeout(Some(BOUND));
    // What was sent should be nearly what was received.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(stream, 64 * 1024);
    let mut reader = BufReader::new(stream);
    while let Ok(Some(head)) = Head::read(&mut reader) {
        match answer(shared, &head, &mut reader, stream) {
            Ok(true) => {}
            // A polite end: FIN after all that was sent, whatever the client still has to say.
            _ => break,
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// Deals with a request. True if the connection can take another one.
fn answer(
    shared: &Arc<Shared>,
    head: &Head,
    reader: &mut BufReader<&TcpStream>,
    stream: &TcpStream,
) -> io::Result<bool> {
    let seen = Seen {
        method: head.word(0).into(),
        target: head.word(1).into(),
        headers: head.headers.clone(),
        ..Seen::default()
    };
    let (at, before) = {
        let mut all = lock(&shared.seen);
        let before = all.iter().filter(|old| old.target == seen.target && old.method == seen.method).count();
        all.push(seen.clone());
        (all.len() - 1, before)
    };
    let record = |change: &dyn Fn(&mut Seen)| {
        if let Some(seen) = lock(&shared.seen).get_mut(at) {
            change(seen);
        }
    };
    // Whatever happens to the client from here on, the request can be done.
    let body = body(head, reader)?;
    let rule = Arc::clone(&lock(&shared.rule));
    let fault = rule(&seen, before);
    match &fault {
        Fault::Close => return Ok(false),
        Fault::Silence => return hold(shared, stream),
        Fault::Status(status, headers) => {
            record(&|seen| seen.status = *status);
            let body = format!(r#"{{"errors":[{{"code":"UNKNOWN","message":"the link says {status}"}}]}}"#);
            return plain(stream, &seen, *status, headers, body.as_bytes());
        }
        Fault::Answer(media_type, body) => {
            record(&|seen| seen.status = 200);
            return plain(stream, &seen, 200, &[("Content-Type".into(), media_type.clone())], body);
        }
        Fault::Redirect(to) => {
            record(&|seen| seen.status = 307);
            let location = ("Location".into(), format!("http://{to}{}", seen.target));
            return plain(stream, &seen, 307, &[location], b"");
        }
        _ => {}
    }
    let mut request = head.clone();
    if fault == Fault::IgnoreRange {
        request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("range"));
    }
    let (mut reply, mut from) = ask(shared.backend, &mut request, &body)?;
    if fault == Fault::Lost {
        return Ok(false);
    }
    let mut rest = Vec::new();
    let length = if seen.method == "HEAD" || matches!(reply.word(1), "204" | "304") {
        0
    } else if let Some(length) = reply.length() {
        length
    } else {
        if reply.chunked() {
            chunks(&mut from, &mut rest)?;
        } else {
            from.read_to_end(&mut rest)?;
        }
        reply.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("transfer-encoding"));
        rest.len() as u64
    };
    let send = match fault {
        Fault::Short(less) => length.saturating_sub(less),
        Fault::Long(more) => length + more,
        _ => length,
    };
    reply.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("connection"));
    if seen.method != "HEAD" && reply.word(1) != "204" && reply.word(1) != "304" {
        reply.set("Content-Length", &send.to_string());
    }
    record(&|seen| seen.status = reply.word(1).parse().unwrap_or(0));
    let mut stream = stream;
    stream.write_all(&reply.bytes())?;
    let mut source: Box<dyn Read> =
        if rest.is_empty() { Box::new(from) } else { Box::new(io::Cursor::new(rest)) };
    let begin = Instant::now();
    let first = range_start(&reply);
    let mut done = 0;
    let mut buffer = vec![0; 16 * 1024];
    while done < send {
        if shared.stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let until = match fault {
            Fault::DropAfter(bytes) | Fault::StallAfter(bytes) => bytes.min(send),
            _ => send,
        };
        let want = (until - done).min(buffer.len() as u64) as usize;
        if want == 0 {
            return if matches!(fault, Fault::DropAfter(_)) { Ok(false) } else { hold(shared, stream) };
        }
        let got = match source.read(&mut buffer[..want])? {
            0 if matches!(fault, Fault::Long(_)) => want,
            0 => return Ok(false),
            got => got,
        };
        if let Fault::WrongByte(place) = fault
            && let Some(inside) = place.checked_sub(first + done)
            && inside < got as u64
        {
            buffer[inside as usize] ^= 0x55;
        }
        stream.write_all(&buffer[..got])?;
        done += got as u64;
        record(&|seen| seen.sent = done);
        wait::pace(shared.rate.load(Ordering::Relaxed), begin, done);
    }
    Ok(true)
}

fn body(head: &Head, reader: &mut BufReader<&TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if head.get("expect").is_some() {
        let mut stream: &TcpStream = reader.get_ref();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if head.chunked() {
        chunks(reader, &mut body)?;
    } else if let Some(length) = head.length() {
        reader.take(length).read_to_end(&mut body)?;
    }
    Ok(body)
}

fn ask(backend: SocketAddr, request: &mut Head, body: &[u8]) -> io::Result<(Head, BufReader<TcpStream>)> {
    let mut stream = TcpStream::connect_timeout(&backend, BOUND)?;
    stream.set_read_timeout(Some(BOUND))?;
    request
        .headers
        .retain(|(name, _)| !["transfer-encoding", "expect"].contains(&name.to_lowercase().as_str()));
    request.set("Connection", "close");
    if !body.is_empty() || request.length().is_some() {
        request.set("Content-Length", &body.len().to_string());
    }
    stream.write_all(&request.bytes())?;
    stream.write_all(body)?;
    let mut reader = BufReader::new(stream);
    let reply = Head::read(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((reply, reader))
}

fn plain(
    mut stream: &TcpStream,
    seen: &Seen,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> io::Result<bool> {
    let mut head = Head { first: format!("HTTP/1.1 {status} Said So"), headers: headers.to_vec() };
    if head.get("content-type").is_none() {
        head.set("Content-Type", "application/json");
    }
    head.set("Content-Length", &body.len().to_string());
    stream.write_all(&head.bytes())?;
    if seen.method != "HEAD" {
        stream.write_all(body)?;
    }
    Ok(true)
}

/// Keeps the connection open and says nothing, until the client or the test has enough.
fn hold(shared: &Shared, mut stream: &TcpStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let end = Instant::now() + Duration::from_secs(600);
    while Instant::now() < end && !shared.stop.load(Ordering::Relaxed) {
        match stream.read(&mut [0; 64]) {
            Ok(0) => break,
            Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                break;
            }
            _ => {}
        }
    }
    Ok(false)
}

fn range_start(reply: &Head) -> u64 {
    let range = reply.get("content-range").and_then(|value| value.strip_prefix("bytes "));
    range.and_then(|value| value.split('-').next()?.parse().ok()).unwrap_or(0)
}
