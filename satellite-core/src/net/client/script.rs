//! A scripted HTTP server for tests: threads, `std` sockets, and an answer for every request.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use futures_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What a client sent.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Connections are counted from 0.
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|l| {
            let (n, v) = l.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim())
        })
    }
}

/// What it gets.
pub(crate) enum Reply {
    /// These bytes; then the next request.
    Send(Vec<u8>),
    /// These bytes, then the end of the connection.
    Cut(Vec<u8>),
    /// These bytes, then silence until the client goes away.
    Hang(Vec<u8>),
    /// These bytes, then TLS on the same socket.
    Tls(Vec<u8>, Arc<ServerConfig>),
}

/// `status`, with headers (each line ended) and a body with its length.
pub(crate) fn reply(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let mut all =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    all.extend_from_slice(body);
    Reply::Send(all)
}

/// A head without a body, as for HEAD.
pub(crate) fn head(status: &str, headers: &str) -> Reply {
    Reply::Send(format!("HTTP/1.1 {status}\r\n{headers}\r\n").into_bytes())
}

type Handler = Arc<Mutex<dyn FnMut(&Seen) -> Reply + Send>>;

pub(crate) struct Script {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Numbers of connections that have ended.
    pub(crate) ended: smol::channel::Receiver<usize>,
}

impl Script {
    pub(crate) fn start(handler: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        Self::bind(None, Arc::new(Mutex::new(handler)))
    }

    pub(crate) fn start_tls(
        config: Arc<ServerConfig>,
        handler: impl FnMut(&Seen) -> Reply + Send + 'static,
    ) -> Self {
        Self::bind(Some(config), Arc::new(Mutex::new(handler)))
    }

    fn bind(tls: Option<Arc<ServerConfig>>, handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let (end, ended) = smol::channel::unbounded();
        thread::spawn(move || {
            for (number, socket) in listener.incoming().enumerate() {
                let (handler, log, tls, end) = (handler.clone(), log.clone(), tls.clone(), end.clone());
                let socket = socket.unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                thread::spawn(move || {
                    serve(number, socket, tls, &handler, &log);
                    let _ = end.send_blocking(number);
                });
            }
        });
        Self { port, seen, ended }
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// `METHOD target` of every request.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|s| format!("{} {}", s.method, s.target)).collect()
    }
}

fn serve(
    number: usize,
    socket: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    handler: &Handler,
    log: &Mutex<Vec<Seen>>,
) {
    match tls {
        None => converse(number, socket, handler, log),
        Some(config) => {
            let session = ServerConnection::new(config).unwrap();
            converse(number, StreamOwned::new(session, socket), handler, log);
        }
    }
}

trait Socket: Read + Write {
    fn plain(self) -> Option<TcpStream>;
}

impl Socket for TcpStream {
    fn plain(self) -> Option<TcpStream> {
        Some(self)
    }
}

impl Socket for StreamOwned<ServerConnection, TcpStream> {
    fn plain(self) -> Option<TcpStream> {
        None
    }
}

fn converse(number: usize, mut socket: impl Socket, handler: &Handler, log: &Mutex<Vec<Seen>>) {
    let mut buffer = Vec::new();
    while let Some(seen) = read_request(number, &mut socket, &mut buffer) {
        log.lock().unwrap().push(seen.clone());
        let reply = (handler.lock().unwrap())(&seen);
        let (bytes, more) = match &reply {
            Reply::Send(bytes) => (bytes, true),
            Reply::Cut(bytes) | Reply::Hang(bytes) | Reply::Tls(bytes, _) => (bytes, false),
        };
        if socket.write_all(bytes).and_then(|()| socket.flush()).is_err() {
            return;
        }
        match reply {
            Reply::Hang(_) => {
                while matches!(socket.read(&mut [0; 256]), Ok(n) if n > 0) {}
                return;
            }
            Reply::Tls(_, config) => {
                return serve(number, socket.plain().unwrap(), Some(config), handler, log);
            }
            _ if !more => return,
            _ => {}
        }
    }
}

fn read_request(number: usize, socket: &mut impl Read, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        fill(socket, buffer)?;
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
    let mut seen = Seen { connection: number, method, target, head, body: Vec::new() };
    if let Some(length) = seen.header("content-length").map(|v| v.parse::<usize>().unwrap()) {
        while buffer.len() < length {
            fill(socket, buffer)?;
        }
        seen.body = buffer.drain(..length).collect();
    } else if seen.header("transfer-encoding") == Some("chunked") {
        loop {
            let line = loop {
                match buffer.windows(2).position(|w| w == b"\r\n") {
                    Some(at) => break buffer.drain(..at + 2).collect::<Vec<_>>(),
                    None => fill(socket, buffer)?,
                }
            };
            let size = usize::from_str_radix(String::from_utf8(line).unwrap().trim(), 16).unwrap();
            while buffer.len() < size + 2 {
                fill(socket, buffer)?;
            }
            seen.body.extend(buffer.drain(..size));
            buffer.drain(..2);
            if size == 0 {
                break;
            }
        }
    }
    Some(seen)
}

fn fill(socket: &mut impl Read, buffer: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 16 << 10];
    let read = socket.read(&mut piece).ok().filter(|n| *n > 0)?;
    buffer.extend_from_slice(&piece[..read]);
    Some(())
}

/// Runs a test's future with an executor for its connections, for 30 s at most.
pub(crate) fn run<T>(test: impl AsyncFnOnce(crate::net::Executor) -> T) -> T {
    let executor: crate::net::Executor = Arc::new(smol::Executor::new());
    let limit = async {
        async_io::Timer::after(Duration::from_secs(30)).await;
        panic!("the test hangs");
    };
    let driver = executor.clone();
    smol::block_on(futures_lite::future::or(driver.run(async { test(executor.clone()).await }), limit))
}
