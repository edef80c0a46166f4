#![allow(clippy::unwrap_used)]
//! Whatever a client may send on a connection.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use super::{Limits, Server};
use crate::net::{
    Executor,
    message::{Handler, Request, Response, ResponseBody},
};

/// Answers with the body it got, up to a bound.
struct Echo;

#[async_trait::async_trait]
impl Handler for Echo {
    async fn handle(&self, request: Request) -> Response {
        let body = request.into_body().read_to_limit(4096).await.ok().flatten();
        Response::new(ResponseBody::Bytes(body.unwrap_or_default()))
    }
}

/// The server must close or answer, and answer the next one as well.
pub(crate) fn requests(data: &[u8]) {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    let address = ADDRESS.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let quick = Duration::from_secs(2);
            let limits = Limits { header_time: quick, body_idle: quick, ..Limits::default() };
            let server = Server::new(vec![listener], Arc::new(Echo), limits, None).unwrap();
            let executor: Executor = Executor::default();
            smol::block_on(executor.run(server.run(&executor, std::future::pending())));
        });
        address
    });
    // A client that closes its side is gone to hyper, and gets no answer: only who sends rubbish does so here.
    let talk = |bytes: &[u8], last: bool| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // The server may have closed by then.
        let sent = stream.write_all(bytes);
        if last {
            let _ = sent.and_then(|()| stream.shutdown(Shutdown::Write));
        }
        let mut answer = Vec::new();
        let end = stream.take(1 << 20).read_to_end(&mut answer);
        let late = end.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!late, "neither an answer nor an end");
        answer
    };
    talk(data, true);
    let answer = talk(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", false);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}
