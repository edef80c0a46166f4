//! Every path that a body can take, byte for byte.

use std::{io::Write, thread};

use super::*;

const LEN: usize = 5_000_003;

#[test]
fn files_arrive_byte_for_byte_at_any_offset_and_length() {
    let server = Running::plain(LEN);
    let mut client = server.connect();
    for (offset, len) in
        [(0, LEN), (1, LEN - 1), (4095, 65_536), (7, 65_537), (LEN - 100_000, 100_000), (LEN - 1, 1), (9, 0)]
    {
        let body = client.get(&format!("/file/{offset}/{len}"));
        assert!(body == server.data[offset..offset + len], "{offset} {len}");
    }
}

#[test]
fn a_kept_alive_connection_carries_every_kind_of_body_in_turn() {
    let server = Running::plain(1_000_000);
    let mut client = server.connect();
    for _ in 0..3 {
        for path in ["/file/0/1000000", "/bytes/1000000", "/stream", "/chunked", "/file/0/1000000"] {
            assert!(client.get(path) == server.data, "{path}");
        }
        assert!(client.get("/file/3/1000") == server.data[3..1003]);
    }
    assert_eq!(server.stats.accepted(), 1);
    assert!(server.stats.bytes_sent() > 15_000_000);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Running::plain(LEN);
    let mut client = server.connect();
    let wanted = (0..40).map(|i| (i * 1_001, [200_000, 10, 70_000, 64 << 10][i % 4])).collect::<Vec<_>>();
    let mut writer = client.0.get_ref().try_clone().unwrap();
    let all = wanted
        .iter()
        .map(|(offset, len)| format!("GET /file/{offset}/{len} HTTP/1.1\r\nhost: h\r\n\r\n"))
        .collect::<String>();
    let writer = thread::spawn(move || writer.write_all(all.as_bytes()).unwrap());
    for (offset, len) in wanted {
        assert!(client.answer(false).whole(200) == server.data[offset..offset + len], "{offset} {len}");
    }
    writer.join().unwrap();
}

#[test]
fn files_that_the_page_cache_does_not_have_arrive_too() {
    let server = Running::plain(LEN);
    let mut client = server.connect();
    for (offset, len) in [(0, LEN), (100_000, 3_000), (1, LEN - 1)] {
        // A wish only; a file system in memory ignores it.
        server.file.sync_all().unwrap();
        rustix::fs::fadvise(&*server.file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert!(client.get(&format!("/file/{offset}/{len}")) == server.data[offset..offset + len]);
    }
}

#[test]
fn many_clients_at_once_get_their_own_bytes() {
    let server = Running::plain(LEN);
    thread::scope(|scope| {
        for i in 0..16 {
            let server = &server;
            scope.spawn(move || {
                let body = server.connect().get(&format!("/file/{i}/{}", LEN - i));
                assert!(body == server.data[i..], "{i}");
            });
        }
    });
}

#[test]
fn answers_without_a_body_leave_the_connection_usable() {
    let server = Running::plain(LEN);
    let mut client = server.connect();
    for (method, path, status, length) in [
        ("HEAD", "/file/0/5000003", 200, Some("5000003")),
        ("HEAD", "/stream", 200, Some("5000003")),
        ("HEAD", "/chunked", 200, None),
        ("HEAD", "/by-hand", 200, Some("77")),
        ("GET", "/by-hand", 200, Some("0")),
        ("GET", "/none", 204, None),
        ("GET", "/same", 304, None),
    ] {
        let answer = client.request(method, path);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers.get("content-length").map(String::as_str), length, "{path}");
        assert!(client.get("/file/5/100000") == server.data[5..100_005], "{path}");
    }
}

#[test]
fn a_client_that_goes_away_in_the_middle_harms_nobody() {
    let server = Running::plain(64 << 20);
    for path in ["/file/0/67108864", "/stream", "/chunked"] {
        let mut client = server.connect();
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n"));
        let mut some = [0; 100_000];
        client.0.read_exact(&mut some).unwrap();
        drop(client);
        assert!(server.connect().get("/file/1/500000") == server.data[1..500_001]);
    }
}

#[test]
fn a_body_that_fails_is_cut_and_never_padded() {
    let server = Running::plain(300_000);
    // A big and a small file that end early, then streams.
    for path in ["/file/0/900000", "/file/299990/100", "/error", "/less", "/more"] {
        let mut client = server.connect();
        let answer = client.request("GET", path);
        assert!(answer.cut, "{path}: {} bytes", answer.body.len());
        let from = if path.contains("299990") { 299_990 } else { 0 };
        assert!(server.data[from..].starts_with(&answer.body), "{path}");
        client.assert_closed();
    }
}

#[test]
fn uploads_arrive_whole_with_and_without_a_length() {
    let server = Running::plain(0);
    let body = random(3_000_000);
    let mut client = server.connect();
    client.send(&format!("PUT /echo HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", body.len()));
    client.0.get_mut().write_all(&body).unwrap();
    assert!(client.answer(false).whole(200) == body);
    client.send("PATCH /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n");
    for piece in body.chunks(77_777) {
        client.send(&format!("{:x}\r\n", piece.len()));
        client.0.get_mut().write_all(piece).unwrap();
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
    assert!(client.answer(false).whole(200) == body);
}

#[test]
fn an_answer_to_an_unread_upload_reaches_the_client() {
    let server = Running::plain(0);
    let mut client = server.connect();
    client.send("PUT /secret HTTP/1.1\r\nhost: h\r\ncontent-length: 8000000\r\n\r\n");
    // The server has its answer out long before this is over, and must not reset the connection meanwhile.
    client.0.get_mut().write_all(&random(8_000_000)).unwrap();
    assert_eq!(client.answer(false).whole(401), b"who are you");
    client.assert_closed();
}
