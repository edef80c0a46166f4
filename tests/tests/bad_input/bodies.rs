//! Bodies and connections: cut, endless, slow, flooded, and not HTTP at all.

use crate::{Victim, refused};
use satellite_tests::http::{Body, Connection, Request};
use satellite_tests::image::{Blob, with_digest};
use satellite_tests::{oci, wait};
use std::time::{Duration, Instant};

#[test]
fn ranges_are_served_as_the_rfc_says_or_refused() {
    let victim = Victim::new();
    let blob = &victim.image.blobs[1];
    let target = format!("/v2/app/blobs/{}", blob.digest);
    let ask = |range: &str| victim.client.send(&Request::new("GET", &target).header("Range", range));
    let size = blob.bytes.len();
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=99990-", 99_990, size),
        ("bytes=-7", size - 7, size),
        ("bytes=50000-9999999", 50_000, size),
        ("bytes=-9999999", 0, size),
    ] {
        let answer = ask(range).expect(206);
        assert_eq!(
            answer.header("content-range"),
            Some(format!("bytes {from}-{}/{size}", to - 1).as_str()),
            "{range}"
        );
        assert_eq!(answer.body, &blob.bytes[from..to], "{range}");
    }
    for range in ["bytes=100000-", "bytes=200000-300000", "bytes=-0"] {
        let answer = ask(range).expect(416);
        assert_eq!(answer.header("content-range"), Some(format!("bytes */{size}").as_str()), "{range}");
    }
    // Not understood: ignored (RFC 9110 §14.2), or refused; never a wrong byte.
    for range in [
        "bytes=5-2",
        "bytes=a-b",
        "bytes=",
        "lines=1-2",
        "bytes=0-1,5-6",
        "bytes=99999999999999999999-",
        "bytes=--5",
        "x",
    ] {
        let answer = ask(range);
        match answer.status {
            200 => assert_eq!(answer.body, blob.bytes, "{range}"),
            206 => assert!(range.contains(','), "206 for {range}"),
            400 | 416 => {}
            other => panic!("{other} for {range}"),
        }
    }
    victim.unharmed();
}

#[test]
fn wrong_offsets_and_digests_leave_an_upload_where_it_was() {
    let victim = Victim::new();
    let location = victim.client.post("/v2/app/blobs/uploads/").expect(202).location();
    let patch = |location: &str, range: &str, bytes: &[u8]| {
        let request = Request::new("PATCH", location).header("Content-Type", "application/octet-stream");
        victim.client.send(&request.header("Content-Range", range).bytes(bytes))
    };
    let location = patch(&location, "0-9", b"0123456789").expect(202).location();
    for range in ["0-9", "5-14", "11-20", "20-29"] {
        patch(&location, range, b"0123456789").expect(416);
    }
    for range in ["10-5", "10-99", "ten-20", "-", ""] {
        refused(&patch(&location, range, b"0123456789"), &format!("Content-Range: {range}"));
    }
    let status = victim.client.get(&location).expect(204);
    assert_eq!(status.header("range"), Some("0-9"));
    let wrong = format!("sha256:{}", "a".repeat(64));
    let answer = victim
        .client
        .send(&Request::new("PUT", &with_digest(&location, &wrong)).header("Content-Length", "0"));
    assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"), "{}", answer.text());
    victim.client.get(&format!("/v2/app/blobs/{wrong}")).expect(404);
    refused(
        &victim.client.send(&Request::new("PUT", &location).header("Content-Length", "0")),
        "an end without a digest",
    );
    victim.unharmed();
}

#[test]
fn a_truncated_body_makes_nothing_visible() {
    let victim = Victim::new();
    let blob = Blob::noise(500_000, 9);
    let whole = format!("/v2/app/blobs/uploads/?digest={}", blob.digest);
    for sent in [0, 1, 100_000, 499_999] {
        let body = || Body::Cut { announced: 500_000, sent: blob.bytes[..sent].to_vec() };
        let location = victim.client.post("/v2/app/blobs/uploads/").expect(202).location();
        for request in
            [Request::new("POST", &whole), Request::new("PUT", &with_digest(&location, &blob.digest))]
        {
            if let Ok(answer) = victim.client.try_send(&request.body(body())) {
                assert!(answer.status >= 400, "{} after {sent} bytes of 500000", answer.status);
            }
            victim.client.get(&format!("/v2/app/blobs/{}", blob.digest)).expect(404);
        }
        // What came may be kept, never more.
        let answer = victim.client.get(&location);
        if answer.status == 204 {
            let range = answer.header("range").unwrap_or("0-0").to_owned();
            let last: usize = range.trim_start_matches("0-").parse().unwrap();
            assert!(last <= sent, "{range} after {sent} bytes");
        }
    }
    let manifest = Request::new("PUT", "/v2/app/manifests/cut").header("Content-Type", oci::MANIFEST);
    let body = Body::Cut { announced: 5000, sent: victim.image.manifest.clone() };
    let _ = victim.client.try_send(&manifest.body(body));
    victim.client.get("/v2/app/manifests/cut").expect(404);
    victim.unharmed();
}

#[test]
fn an_endless_manifest_is_refused_before_it_fills_the_memory() {
    let victim = Victim::new();
    let put = Request::new("PUT", "/v2/app/manifests/big").header("Content-Type", oci::MANIFEST);
    let said = put.clone().body(Body::Cut { announced: 1 << 40, sent: vec![b' '; 1000] });
    if let Ok(answer) = victim.client.try_send(&said) {
        assert!(matches!(answer.status, 400 | 413), "{}", answer.status);
    }
    let chunks = vec![vec![b' '; 1 << 20]; 96];
    if let Ok(answer) = victim.client.try_send(&put.body(Body::Chunked(chunks))) {
        assert!(matches!(answer.status, 400 | 413), "{}", answer.status);
    }
    victim.client.get("/v2/app/manifests/big").expect(404);
    victim.unharmed();
}

#[test]
fn floods_of_headers_and_what_is_no_http_end_in_an_error_or_a_closed_connection() {
    let victim = Victim::new();
    let mut flood = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n".to_vec();
    for n in 0..20_000 {
        flood.extend(format!("X-{n}: {n}\r\n").bytes());
    }
    flood.extend(b"\r\n");
    let line = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(2 << 20)).into_bytes();
    let target = format!("GET /v2/{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(2 << 20)).into_bytes();
    let strange: [&[u8]; 12] = [
        &flood,
        &line,
        &target,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v2/\r\n\r\n",
        b"GET /v2/ HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PUT /v2/app/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"PUT /v2/app/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"PUT /v2/app/manifests/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
        b"PUT /v2/app/manifests/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnothex\r\nx",
    ];
    for bytes in strange {
        let mut connection = victim.client.connect().unwrap();
        let _ = connection.write(bytes);
        connection.finish();
        if let Ok(answer) = connection.read_response("GET") {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            assert!((400..600).contains(&answer.status), "{} for {start:?}", answer.status);
        }
    }
    victim.client.get("/v2/app/manifests/x").expect(404);
    victim.unharmed();
}

/// True once the server has closed this connection (or answered something).
fn closed(connection: &mut Connection) -> bool {
    match connection.read_head() {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}

#[test]
fn slow_clients_hold_up_nobody_and_are_shown_out() {
    let victim = Victim::new();
    let impatient = victim.client.clone().bound(Duration::from_millis(20));
    let halves: [&[u8]; 3] = [
        b"",
        b"GET /v2/ HTTP/1.1\r\nHos",
        b"PUT /v2/app/manifests/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
    ];
    let mut slow: Vec<Connection> = Vec::new();
    for n in 0..150 {
        let mut connection = impatient.connect().unwrap();
        connection.write(halves[n % halves.len()]).unwrap();
        slow.push(connection);
    }
    let start = Instant::now();
    victim.image.check(&victim.client, "app", "v1");
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "a good client waited for slow ones: {:?}",
        start.elapsed()
    );
    wait::until(Duration::from_secs(120), "the server to close half-sent requests", || {
        slow.retain_mut(|connection| !closed(connection));
        slow.is_empty().then_some(())
    });
    victim.unharmed();
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let victim = Victim::new();
    let big = Blob::noise(32 << 20, 77);
    big.try_push(&victim.client, "app").unwrap();
    let mut stuck = Vec::new();
    for _ in 0..40 {
        let mut connection = victim.client.connect().unwrap();
        connection.write_request(&Request::new("GET", &format!("/v2/app/blobs/{}", big.digest))).unwrap();
        stuck.push(connection);
    }
    let start = Instant::now();
    big.check(&victim.client, "app");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(stuck);
    victim.unharmed();
}
