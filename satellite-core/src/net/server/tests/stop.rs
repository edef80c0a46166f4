//! How a server ends.

use std::{io::ErrorKind, time::Instant};

use super::*;

fn wait_until_refused(address: SocketAddr) {
    let begun = Instant::now();
    while TcpStream::connect(address).map_err(|e| e.kind()).err() != Some(ErrorKind::ConnectionRefused) {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

#[test]
fn a_stop_refuses_new_clients_while_the_running_answer_ends() {
    let mut server = Running::plain(5_000_000);
    let mut idle = server.connect();
    idle.get("/bytes/1");
    let mut busy = server.connect();
    busy.send("GET /gate HTTP/1.1\r\nhost: h\r\n\r\n");
    server.entered.recv_blocking().unwrap();
    server.stop();
    wait_until_refused(server.address);
    idle.assert_closed();
    server.go.send_blocking(()).unwrap();
    assert!(busy.answer(false).whole(200) == server.data);
    busy.assert_closed();
    server.join();
    assert_eq!(server.stats.open(), 0);
}

#[test]
fn an_answer_that_takes_too_long_is_cut_by_the_stop() {
    let limits = Limits { drain: Duration::from_millis(200), ..Limits::default() };
    let mut server = start(0, limits, None);
    let mut busy = server.connect();
    busy.send("GET /gate HTTP/1.1\r\nhost: h\r\n\r\n");
    server.entered.recv_blocking().unwrap();
    server.stop();
    server.join();
    busy.assert_closed();
    assert_eq!(server.stats.open(), 0);
}
