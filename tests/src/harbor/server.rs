//! Connections: a thread each, requests one after another.

use super::fault::{Fault, Part};
use super::login::{self, Who};
use super::message::{Reply, Request};
use super::{Call, Shared, api, token, v2};
use crate::http::wire::{Head, chunks};
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Longest body that is taken.
const MAX_BODY: u64 = 64 << 20;

pub(super) fn run(listener: TcpListener, shared: &Arc<Shared>) {
    let served = Arc::clone(shared);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if served.stop.load(Ordering::Relaxed) {
                break;
            }
            let shared = Arc::clone(&served);
            std::thread::spawn(move || {
                let _ = serve(&shared, &stream);
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
    });
}

fn serve(shared: &Shared, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while !shared.stop.load(Ordering::Relaxed) {
        let Some(head) = Head::read(&mut reader)? else { return Ok(()) };
        let mut request = Request::new(head.word(0), head.word(1), head.headers.clone());
        if head.get("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if head.chunked() {
            request.whole = chunks(&mut reader, &mut request.body)?;
        } else if let Some(length) = head.length() {
            let read = reader.by_ref().take(length.min(MAX_BODY)).read_to_end(&mut request.body)?;
            request.whole = read as u64 == length;
        }
        let close = head.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let at = shared.note(&request);
        // A body that was cut: whatever it meant to do is half done, and nobody is there for the answer.
        let Some(reply) = shared.reply(&request) else { return Ok(()) };
        if let Some(call) = shared.calls.lock().unwrap_or_else(PoisonError::into_inner).get_mut(at) {
            call.status = reply.status;
        }
        if !request.whole {
            return Ok(());
        }
        send(shared, stream, &request, reply, close)?;
        if close {
            return Ok(());
        }
    }
    Ok(())
}

fn send(
    shared: &Shared,
    mut stream: &TcpStream,
    request: &Request,
    reply: Reply,
    close: bool,
) -> io::Result<()> {
    let reply = shared.dress(request, reply);
    let mut head = Head { first: format!("HTTP/1.1 {} Said So", reply.status), headers: reply.headers };
    head.headers.push(("Date".into(), shared.state().clock.date()));
    if !matches!(reply.status, 204 | 304) {
        head.set("Content-Length", &reply.body.len().to_string());
    }
    if close {
        head.set("Connection", "close");
    }
    let mut bytes = head.bytes();
    if request.method != "HEAD" {
        bytes.extend_from_slice(&reply.body);
    }
    stream.write_all(&bytes)
}

impl Shared {
    fn note(&self, request: &Request) -> usize {
        let user = match login::basic(request) {
            Some((user, _)) => user,
            None if request.header("authorization").is_some() => "bearer".into(),
            None => String::new(),
        };
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(Call { method: request.method.clone(), target: request.target.clone(), user, status: 0 });
        calls.len() - 1
    }

    /// The answer; `None` if there is none.
    fn reply(&self, request: &Request) -> Option<Reply> {
        let faults = self.faults().of(request);
        let mut down = Vec::new();
        let mut cut = false;
        for fault in faults {
            match fault {
                Fault::Down(part) => down.push(part),
                Fault::Slow(by) => self.pause(by),
                Fault::Status(status) => return Some(Reply::error(status, code(status), "as it was told")),
                Fault::Cut => return None,
                Fault::CutAfter => cut = true,
                Fault::Hang => {
                    self.hang();
                    return None;
                }
            }
        }
        let reply = self.route(request, &down);
        (!cut).then_some(reply)
    }

    /// Waits, but not longer than the stand-in lives.
    pub(super) fn pause(&self, by: Duration) {
        let faults = self.faults();
        let stopped = |_: &mut super::Faults| !self.stop.load(Ordering::Relaxed);
        drop(self.woken.wait_timeout_while(faults, by, stopped));
    }

    fn hang(&self) {
        let faults = self.faults();
        drop(self.woken.wait_timeout(faults, Duration::from_secs(600)));
    }

    fn route(&self, request: &Request, down: &[Part]) -> Reply {
        let is_down = |part| down.contains(&part);
        if request.path == "/v2" {
            let location = format!("http://{}/v2/", request.host());
            return Reply::html(301, "Moved Permanently").header("Location", &location);
        }
        if is_down(Part::Core) {
            return Reply::html(502, "Bad Gateway");
        }
        if is_down(Part::Redis) {
            self.pause(self.options.redis);
        }
        if let Some(refused) = self.check_csrf(request) {
            return refused;
        }
        let postgres = is_down(Part::Postgres);
        let v2 = request.path.starts_with("/v2/");
        if postgres && request.writes() && !v2 {
            return Reply::error(500, "UNKNOWN", "internal server error").without_cookie();
        }
        if request.writes() && self.state().config.read_only && !is_configuration(&request.path) {
            let text = "The system is in read only mode. Any modification is prohibited.";
            return Reply::error(403, "DENIED", text).without_cookie();
        }
        let who = if postgres { Who::Anonymous } else { self.login(request) };
        if request.path == "/service/token" {
            return token::answer(&mut self.state(), &who, request);
        }
        if v2 {
            return v2::answer(&mut self.state(), &who, request, postgres, is_down(Part::Registry));
        }
        api::answer(&mut self.state(), &who, request, down)
    }
}

/// The code that Harbor answers with that status.
fn code(status: u16) -> &'static str {
    match status {
        400 => "BAD_REQUEST",
        401 => "UNAUTHORIZED",
        403 => "FORBIDDEN",
        404 => "NOT_FOUND",
        409 => "CONFLICT",
        412 => "PRECONDITION",
        429 => "TOO_MANY_REQUEST",
        _ => "UNKNOWN",
    }
}

fn is_configuration(path: &str) -> bool {
    matches!(path, "/api/v2.0/configurations" | "/c/login")
}
