//! Nobody holds a connection for ever.

use std::time::Instant;

use super::*;

/// Long enough for a busy machine, short enough for a test.
const SHORT: Duration = Duration::from_millis(400);

fn impatient(len: usize) -> Running {
    let limits = Limits {
        header_time: SHORT,
        body_idle: SHORT,
        first_byte: 2 * SHORT,
        drain: SHORT,
        ..Limits::default()
    };
    start(len, limits, None)
}

#[test]
fn half_a_head_and_silence_are_closed() {
    let server = impatient(0);
    for text in ["", "GET /bytes/0 HTTP/1.1\r\nhost", "GET /bytes/0 HTTP/1.1\r\nhost: h\r\n\r\n"] {
        let mut client = server.connect();
        client.send(text);
        if text.ends_with("\r\n\r\n") {
            client.answer(false).whole(200);
        }
        let begun = Instant::now();
        let mut rest = Vec::new();
        client.0.read_to_end(&mut rest).unwrap();
        assert!(begun.elapsed() < PATIENCE / 2, "{text:?}");
    }
}

#[test]
fn a_head_that_trickles_is_cut_and_a_connection_that_is_used_is_not() {
    let server = impatient(10);
    let mut slow = server.connect();
    slow.send("GET /bytes/10 HTTP/1.1\r\nhost: h\r\nx-long: ");
    let mut used = server.connect();
    // Several times as long as a head may take. The pauses are what is tested, they synchronise nothing.
    for _ in 0..20 {
        used.send("GET /bytes/10 HTTP/1.1\r\nhost: h\r\n\r\n");
        used.answer(false).whole(200);
        let _ = slow.0.get_mut().write_all(b"x");
        std::thread::sleep(SHORT / 5);
    }
    slow.assert_closed();
}

#[test]
fn a_kept_connection_that_rests_is_closed_sooner_than_a_head_is_given_up() {
    let limits = Limits { header_time: PATIENCE, idle: SHORT, ..Limits::default() };
    let server = start(10, limits, None);
    let mut resting = server.connect();
    resting.send("GET /bytes/10 HTTP/1.1\r\nhost: h\r\n\r\n");
    resting.answer(false).whole(200);
    // A first head, and one that began, have their whole time: longer than the first client may rest.
    let mut new = server.connect();
    let mut half = server.connect();
    half.send("GET /bytes/10 HTTP/1.1\r\nhost: h\r\n\r\n");
    half.answer(false).whole(200);
    half.send("GET /bytes/10 HTTP/1.1\r\nhost");
    let begun = Instant::now();
    let mut rest = Vec::new();
    resting.0.read_to_end(&mut rest).unwrap();
    assert!(begun.elapsed() < PATIENCE / 2);
    std::thread::sleep(2 * SHORT);
    half.send(": h\r\n\r\n");
    half.answer(false).whole(200);
    new.send("GET /bytes/10 HTTP/1.1\r\nhost: h\r\n\r\n");
    new.answer(false).whole(200);
}

#[test]
fn a_stalled_upload_fails_and_is_closed() {
    let server = impatient(0);
    let mut client = server.connect();
    client.send("PUT /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 1000\r\n\r\nonly this");
    assert_eq!(client.answer(false).whole(408), b"timed out");
    client.assert_closed();
}

#[test]
fn a_slow_upload_that_moves_is_not_cut() {
    let server = impatient(0);
    let mut client = server.connect();
    client.send("PUT /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 20\r\n\r\n");
    // Longer in all than any limit. The pauses are what is tested, they synchronise nothing.
    for _ in 0..20 {
        client.send("x");
        std::thread::sleep(SHORT / 5);
    }
    assert_eq!(client.answer(false).whole(200), [b'x'; 20]);
}

#[test]
fn the_time_to_answer_does_not_run_while_the_client_is_slow() {
    let limits = Limits { first_byte: SHORT / 4, drain: SHORT, ..Limits::default() };
    let server = start(0, limits, None);
    let mut client = server.connect();
    client.send("PUT /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n1");
    std::thread::sleep(SHORT);
    client.send("2");
    assert_eq!(client.answer(false).whole(200), b"12");
}

#[test]
fn a_reader_that_stops_is_cut() {
    let server = impatient(64 << 20);
    for (count, path) in (1..).zip(["/file/0/67108864", "/stream", "/bytes/67108864"]) {
        let mut client = server.connect();
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n"));
        let begun = Instant::now();
        while server.stats.accepted() < count || server.stats.open() > 0 {
            assert!(begun.elapsed() < PATIENCE, "{path}");
            std::thread::yield_now();
        }
        assert!(client.answer(false).cut, "{path}");
    }
}

#[test]
fn a_source_that_stops_is_cut() {
    let server = impatient(100_000);
    let answer = server.connect().request("GET", "/stuck");
    assert!(answer.cut);
    assert!(answer.body == server.data[..40_000]);
}

#[test]
fn a_handler_that_does_not_answer_gets_503_in_the_form_of_oci() {
    let server = impatient(0);
    let answer = server.connect().request("GET", "/never");
    assert_eq!(answer.headers["content-type"], "application/json");
    let json: serde_json::Value = serde_json::from_slice(&answer.whole(503)).unwrap();
    assert_eq!(json["errors"][0]["code"], "UNAVAILABLE");
}

#[test]
fn one_connection_too_many_is_refused_and_room_is_used_again() {
    let limits = Limits { connections: 2, drain: SHORT, ..Limits::default() };
    let server = start(10, limits, None);
    let mut kept = [server.connect(), server.connect()];
    for client in &mut kept {
        client.get("/bytes/10");
    }
    let mut third = server.connect();
    let json: serde_json::Value = serde_json::from_slice(&third.answer(false).whole(503)).unwrap();
    assert_eq!(json["errors"][0]["code"], "UNAVAILABLE");
    third.assert_closed();
    assert_eq!((server.stats.open(), server.stats.accepted(), server.stats.refused()), (2, 2, 1));
    drop(kept);
    let begun = Instant::now();
    while server.stats.open() > 0 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    server.connect().get("/bytes/10");
}

#[test]
fn too_large_a_head_is_refused() {
    let server = impatient(0);
    let many = (0..101).map(|i| format!("x-{i}: y\r\n")).collect::<String>();
    let long = format!("x-long: {}\r\n", "y".repeat(16 << 10));
    for lines in [many, long] {
        let mut client = server.connect();
        client.send(&format!("GET /bytes/0 HTTP/1.1\r\nhost: h\r\n{lines}\r\n"));
        client.answer(false).whole(431);
    }
}
