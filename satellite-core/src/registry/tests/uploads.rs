//! Uploads: sessions, chunks, mounts.

use super::*;

#[test]
fn a_blob_comes_in_whole_in_chunks_as_a_stream_or_with_the_end_in_the_put() {
    smol::block_on(async {
        let home = open();
        let digest = Digest::sha256(BLOB);
        let chunk = |range: &str, bytes: &'static [u8]| ask().with("content-range", range).body(bytes);
        for (repository, patches, last) in [
            ("whole", vec![], ask().body(BLOB)),
            ("chunked", vec![chunk("0-3", &BLOB[..4]), chunk("bytes 4-9/10", &BLOB[4..])], ask()),
            ("streamed", vec![ask().stream(&[&BLOB[..1], b"", &BLOB[1..]], false)], ask()),
            (
                "mixed",
                vec![chunk("0-3", &BLOB[..4]), ask().stream(&[&BLOB[4..6]], false)],
                chunk("6-9", &BLOB[6..]),
            ),
            ("streamed-end", vec![], ask().stream(&[&BLOB[..5], &BLOB[5..]], false)),
        ] {
            let mut at = home.begin(repository).await;
            for patch in patches {
                at = home.send("PATCH", &at, patch).await.is(202).location();
            }
            let got = home.send("PUT", &format!("{at}?digest={digest}"), last).await.is(201);
            assert_eq!(got.location(), format!("/v2/{repository}/blobs/{digest}"));
            assert_eq!(got.header("docker-content-digest"), digest.as_str());
            assert_eq!(home.get(&got.location()).await.is(200).body, BLOB, "{repository}");
            home.get(&at).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
        }
        home.push_blob("post", BLOB).await;
        let empty = home.push_blob("post", b"").await;
        assert_eq!(home.get(&format!("/v2/post/blobs/{empty}")).await.is(200).body, "");
        let long = Digest::of(Algorithm::Sha512, BLOB);
        let at = home.send("POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512", ask()).await.is(202);
        home.send("PUT", &format!("{}?digest={long}", at.location()), ask().body(BLOB)).await.is(201);
        assert_eq!(home.get(&format!("/v2/a/blobs/{long}")).await.is(200).body, BLOB);
    });
}

#[test]
fn what_came_before_a_cut_is_kept_and_the_status_says_how_much() {
    smol::block_on(async {
        let home = open();
        let digest = Digest::sha256(BLOB);
        let at = home.begin("a").await;
        let fresh = home.get(&at).await.is(204);
        assert_eq!(fresh.header("range"), "0-0");
        home.send("PATCH", &at, ask().stream(&[&BLOB[..3], &BLOB[3..5]], true))
            .await
            .fails(400, "BLOB_UPLOAD_INVALID");
        let status = home.get(&at).await.is(204);
        assert_eq!((status.header("range"), &status.location()[..]), ("0-4", &at[..]));
        assert!(at.ends_with(status.header("docker-upload-uuid")));
        home.send("PUT", &format!("{at}?digest={digest}"), ask().stream(&[&BLOB[5..7]], true))
            .await
            .fails(400, "BLOB_UPLOAD_INVALID");
        assert_eq!(home.get(&at).await.is(204).header("range"), "0-6", "a cut PUT is no end");
        let rest = ask().with("content-range", "7-9").body(&BLOB[7..]);
        home.send("PUT", &format!("{at}?digest={digest}"), rest).await.is(201);
        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
        home.send("POST", &path, ask().stream(&[BLOB], true)).await.fails(400, "BLOB_UPLOAD_INVALID");
        let left = std::fs::read_dir(home.dir.path().join(".satellite/partial")).unwrap().count();
        assert_eq!(left, 0, "nobody can go on with a cut whole push");
    });
}

#[test]
fn a_chunk_out_of_place_is_416_and_says_where_the_next_goes() {
    smol::block_on(async {
        let home = open();
        let at = home.begin("a").await;
        home.send("PATCH", &at, ask().body(&BLOB[..4])).await.is(202);
        for (method, range) in [("PATCH", "0-3"), ("PATCH", "5-9"), ("PUT", "9-9")] {
            let path =
                if method == "PUT" { format!("{at}?digest={}", Digest::sha256(BLOB)) } else { at.clone() };
            let (first, last) = range.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let chunk = ask().with("content-range", range).body(&BLOB[first..=last]);
            let got = home.send(method, &path, chunk).await.fails(416, "BLOB_UPLOAD_INVALID");
            assert_eq!((got.header("range"), &got.location()[..]), ("0-3", &at[..]));
        }
        for (range, body, code) in [
            ("4-9", &BLOB[4..6], "SIZE_INVALID"),
            ("4-5", &BLOB[4..], "SIZE_INVALID"),
            ("9-4", &BLOB[4..], "BLOB_UPLOAD_INVALID"),
            ("x", &BLOB[4..], "BLOB_UPLOAD_INVALID"),
            ("", &BLOB[4..], "BLOB_UPLOAD_INVALID"),
        ] {
            let chunk = ask().with("content-range", range).body(body);
            home.send("PATCH", &at, chunk).await.fails(400, code);
            assert_eq!(home.get(&at).await.header("range"), "0-3", "{range}: nothing of it is taken");
        }
        let chunk = ask().with("content-range", "4-5").stream(&[&BLOB[4..6], &BLOB[6..]], false);
        home.send("PATCH", &at, chunk).await.fails(400, "SIZE_INVALID");
        assert_eq!(home.get(&at).await.header("range"), "0-5", "no more than was announced");
    });
}

#[test]
fn an_upload_with_the_wrong_digest_is_gone_and_so_is_a_cancelled_one() {
    smol::block_on(async {
        let home = open();
        let wrong = Digest::sha256(b"other");
        let at = home.begin("a").await;
        home.send("PUT", &at, ask().body(BLOB)).await.fails(400, "DIGEST_INVALID");
        home.send("PUT", &format!("{at}?digest=sha256:12"), ask().body(BLOB))
            .await
            .fails(400, "DIGEST_INVALID");
        assert_eq!(home.get(&at).await.is(204).header("range"), "0-0", "no digest, nothing taken");
        home.send("PUT", &format!("{at}?digest={wrong}"), ask().body(BLOB))
            .await
            .fails(400, "DIGEST_INVALID");
        home.get(&at).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
        home.get(&format!("/v2/a/blobs/{wrong}")).await.fails(404, "BLOB_UNKNOWN");
        let path = format!("/v2/a/blobs/uploads/?digest={wrong}");
        home.send("POST", &path, ask().body(BLOB)).await.fails(400, "DIGEST_INVALID");
        let at = home.begin("a").await;
        home.send("PATCH", &at, ask().body(BLOB)).await.is(202);
        home.send("DELETE", &at, ask()).await.is(204);
        for (method, path) in [
            ("GET", at.clone()),
            ("DELETE", at.clone()),
            ("PATCH", at.clone()),
            ("PUT", format!("{at}?digest={wrong}")),
        ] {
            home.send(method, &path, ask()).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
        }
        home.send("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", ask())
            .await
            .fails(400, "DIGEST_INVALID");
        assert_eq!(std::fs::read_dir(home.dir.path().join(".satellite/partial")).unwrap().count(), 0);
    });
}

#[test]
fn an_upload_belongs_to_its_repository() {
    smol::block_on(async {
        let home = open();
        let at = home.begin("a").await;
        home.send("PATCH", &at, ask().body(&BLOB[..4])).await.is(202);
        let other = at.replace("/v2/a/", "/v2/b/");
        for method in ["GET", "PATCH", "DELETE"] {
            home.send(method, &other, ask()).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
        }
        home.send("PUT", &format!("{other}?digest={}", Digest::sha256(BLOB)), ask())
            .await
            .fails(404, "BLOB_UPLOAD_UNKNOWN");
        assert_eq!(home.get(&at).await.is(204).header("range"), "0-3");
    });
}

#[test]
fn a_blob_is_mounted_from_where_it_is_and_otherwise_an_upload_begins() {
    smol::block_on(async {
        let home = open();
        let digest = home.push_blob("a", BLOB).await;
        let absent = Digest::sha256(b"absent");
        for (to, query, status) in [
            ("b", format!("mount={digest}&from=a"), 201),
            ("c", format!("mount={digest}"), 201),
            ("d", format!("mount={digest}&from=elsewhere"), 202),
            ("e", format!("mount={absent}&from=a"), 202),
            ("f", format!("mount={absent}"), 202),
        ] {
            let got = home.send("POST", &format!("/v2/{to}/blobs/uploads/?{query}"), ask()).await.is(status);
            let expected = if status == 201 { 200 } else { 404 };
            home.get(&format!("/v2/{to}/blobs/{digest}")).await.is(expected);
            if status == 202 {
                home.get(&got.location()).await.is(204);
            }
        }
        home.send("POST", "/v2/b/blobs/uploads/?mount=x", ask()).await.fails(400, "DIGEST_INVALID");
        let bad = format!("/v2/b/blobs/uploads/?mount={digest}&from=A");
        home.send("POST", &bad, ask()).await.fails(400, "NAME_INVALID");
    });
}
