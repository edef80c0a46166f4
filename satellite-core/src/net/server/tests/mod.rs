//! A server on 127.0.0.1 and clients that speak bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bodies;
mod limits;
mod stop;
mod tls;

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use futures_lite::{StreamExt, stream};
use http::StatusCode;
use smol::channel::{Receiver, Sender, bounded};

use super::{Limits, Server, Stats, TlsAcceptor};
use crate::net::{
    Executor,
    message::{Handler, Request, Response, ResponseBody},
};

/// No test waits longer for one read.
const PATIENCE: Duration = Duration::from_secs(20);

fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// Answers by path; see `handle`.
struct Fixture {
    data: Bytes,
    file: Arc<File>,
    /// `/gate` says here that it runs, and answers when it is told to.
    entered: Sender<()>,
    go: Receiver<()>,
}

#[async_trait::async_trait]
impl Handler for Fixture {
    async fn handle(&self, request: Request) -> Response {
        let file = |offset: usize, len: usize| ResponseBody::File {
            file: Arc::clone(&self.file),
            offset: offset as u64,
            len: len as u64,
        };
        let pieces = || {
            let data = self.data.clone();
            let ends = (0..data.len()).step_by(40_000).collect::<Vec<_>>();
            stream::iter(ends).map(move |at| Ok(data.slice(at..data.len().min(at + 40_000))))
        };
        let path = request.uri().path().to_owned();
        let mut words = path.split('/').skip(1);
        let word = words.next().unwrap();
        let mut number = || words.next().unwrap().parse::<usize>().unwrap();
        let body = match word {
            // file/OFFSET/LENGTH, which may be more than there is
            "file" => file(number(), number()),
            "bytes" => ResponseBody::Bytes(self.data.slice(..number())),
            "stream" => {
                ResponseBody::Stream { len: Some(self.data.len() as u64), stream: Box::pin(pieces()) }
            }
            "chunked" => ResponseBody::Stream { len: None, stream: Box::pin(pieces()) },
            // As promised but for the end: an error, too little, too much.
            "error" => {
                let cut = stream::once(Err(std::io::Error::other("the source failed")));
                ResponseBody::Stream { len: None, stream: Box::pin(pieces().take(2).chain(cut)) }
            }
            "less" => {
                ResponseBody::Stream { len: Some(self.data.len() as u64), stream: Box::pin(pieces().take(2)) }
            }
            "more" => ResponseBody::Stream { len: Some(50_000), stream: Box::pin(pieces()) },
            "stuck" => ResponseBody::Stream {
                len: None,
                stream: Box::pin(pieces().take(1).chain(stream::pending())),
            },
            "echo" => match request.into_body().read_to_limit(64 << 20).await {
                Ok(body) => ResponseBody::Bytes(body.unwrap()),
                Err(e) => return status(StatusCode::REQUEST_TIMEOUT, e.kind().to_string()),
            },
            "gate" => {
                self.entered.send(()).await.unwrap();
                self.go.recv().await.unwrap();
                file(0, self.data.len())
            }
            "never" => std::future::pending().await,
            "none" => return status(StatusCode::NO_CONTENT, ""),
            "by-hand" => {
                let mut empty = Response::new(ResponseBody::Empty);
                empty.headers_mut().insert("content-length", 77.into());
                return empty;
            }
            "same" => {
                let mut same = Response::new(file(0, self.data.len()));
                *same.status_mut() = StatusCode::NOT_MODIFIED;
                return same;
            }
            _ => return status(StatusCode::UNAUTHORIZED, "who are you"),
        };
        Response::new(body)
    }
}

fn status(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut response = Response::new(ResponseBody::Bytes(text.into()));
    *response.status_mut() = status;
    response
}

/// A server on a thread of its own, stopped when dropped.
struct Running {
    address: SocketAddr,
    data: Bytes,
    file: Arc<File>,
    stats: Arc<Stats>,
    entered: Receiver<()>,
    go: Sender<()>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn start(len: usize, limits: Limits, tls: Option<TlsAcceptor>) -> Running {
    let data = Bytes::from(random(len));
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&data).unwrap();
    let (entered_tx, entered) = bounded(1);
    let (go, go_rx) = bounded(1);
    let file = Arc::new(file);
    let handler = Fixture { data: data.clone(), file: Arc::clone(&file), entered: entered_tx, go: go_rx };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new([listener], Arc::new(handler), limits, tls).unwrap();
    let stats = server.stats();
    let (stop, stopped) = bounded::<()>(1);
    let thread = std::thread::spawn(move || {
        let ex = Executor::default();
        let stopped = async move { stopped.recv().await.unwrap_or(()) };
        smol::block_on(ex.run(server.run(&ex, stopped)));
    });
    Running { address, data, file, stats, entered, go, stop: Some(stop), thread: Some(thread) }
}

impl Running {
    fn plain(len: usize) -> Self {
        start(len, Limits { drain: Duration::from_secs(1), ..Limits::default() }, None)
    }

    fn connect(&self) -> Client<TcpStream> {
        Client::new(self.socket())
    }

    fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn stop(&mut self) {
        self.stop = None;
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if !std::thread::panicking() {
            self.join();
        }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
    /// Why the body is not whole.
    cut: bool,
}

impl Answer {
    fn whole(self, status: u16) -> Vec<u8> {
        assert_eq!((self.status, self.cut), (status, false), "{:?}", self.headers);
        self.body
    }
}

struct Client<S>(BufReader<S>);

impl<S: Read + Write> Client<S> {
    fn new(socket: S) -> Self {
        Self(BufReader::new(socket))
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn request(&mut self, method: &str, path: &str) -> Answer {
        self.send(&format!("{method} {path} HTTP/1.1\r\nhost: h\r\n\r\n"));
        self.answer(method == "HEAD")
    }

    fn get(&mut self, path: &str) -> Vec<u8> {
        self.request("GET", path).whole(200)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        // A cut is an empty line, whichever way it comes; only waiting in vain is wrong.
        if let Err(e) = self.0.read_line(&mut line) {
            assert_ne!(e.kind(), ErrorKind::WouldBlock);
        }
        line.trim_end().to_owned()
    }

    fn answer(&mut self, head: bool) -> Answer {
        let mut headers = HashMap::new();
        let line = self.line();
        if line.is_empty() {
            return Answer { status: 0, headers, body: Vec::new(), cut: true };
        }
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_owned(), value.to_owned());
        }
        let mut body = Vec::new();
        let cut = if head || status == 204 || status == 304 {
            false
        } else if let Some(len) = headers.get("content-length") {
            self.take(len.parse().unwrap(), &mut body)
        } else {
            assert_eq!(headers["transfer-encoding"], "chunked");
            loop {
                let Ok(len) = usize::from_str_radix(&self.line(), 16) else { break true };
                let cut = self.take(len, &mut body);
                self.line();
                if cut || len == 0 {
                    break cut;
                }
            }
        };
        Answer { status, headers, body, cut }
    }

    /// Whether it is less.
    fn take(&mut self, len: usize, body: &mut Vec<u8>) -> bool {
        let before = body.len();
        // A reset is a cut too.
        if let Err(e) = (&mut self.0).take(len as u64).read_to_end(body) {
            assert_ne!(e.kind(), ErrorKind::WouldBlock);
        }
        body.len() - before < len
    }

    /// Nothing more comes: the server has closed.
    fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest)),
            Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset, "not closed in time"),
        }
    }
}
