//! Names, tags, digests and paths that are none.

use crate::{Victim, refused};
use satellite_tests::http::Request;
use satellite_tests::oci;

#[test]
fn names_tags_and_digests_that_are_none_are_refused_by_every_method() {
    let victim = Victim::new();
    let hex = "a".repeat(64);
    let good = format!("sha256:{hex}");
    let (long_name, long_tag) = ("a/".repeat(200) + "a", "t".repeat(129));
    let names = [
        "UPPER",
        "a//b",
        "/a",
        "a/",
        ".a",
        "a/.b",
        "-a",
        "a..b",
        "a___b",
        "a%2f%2fb",
        "a b",
        "a%20b",
        "a%00b",
        "a%ff%feb",
        "a\\b",
        "a%5cb",
        "..",
        "../..",
        "a/../b",
        "%2e%2e/%2e%2e/etc",
        "..%2f..%2fetc%2fpasswd",
        "a:b",
        "a@b",
        "caf\u{e9}",
        &long_name,
    ];
    let tags = [".v1", "-v1", "v 1", "v%201", "v%001", "v/1", "..", "%2e%2e", "v1:2", &long_tag];
    let short = "sha256:abc".to_owned();
    let upper = format!("sha256:{}", "A".repeat(64));
    let digests = [
        short,
        upper,
        format!("sha256:{hex}a"),
        format!("sha256:{}", "g".repeat(64)),
        format!("md5:{}", "a".repeat(32)),
        format!("SHA256:{hex}"),
        "sha256:".into(),
        ":".into(),
        "sha256:../../../etc/passwd".into(),
        "sha256:%2e%2e%2f%2e%2e%2fetc%2fpasswd".into(),
        format!("sha512:{hex}"),
    ];
    let mut targets = Vec::new();
    for name in names {
        targets.push(format!("/v2/{name}/manifests/v1"));
        targets.push(format!("/v2/{name}/blobs/{good}"));
        targets.push(format!("/v2/{name}/tags/list"));
        targets.push(format!("/v2/{name}/referrers/{good}"));
        targets.push(format!("/v2/{name}/blobs/uploads/"));
    }
    targets.extend(tags.iter().map(|tag| format!("/v2/app/manifests/{tag}")));
    for digest in &digests {
        targets.push(format!("/v2/app/blobs/{digest}"));
        targets.push(format!("/v2/app/manifests/{digest}"));
        targets.push(format!("/v2/app/referrers/{digest}"));
        targets.push(format!("/v2/app/blobs/uploads/?digest={digest}"));
        targets.push(format!("/v2/app/blobs/uploads/?mount={digest}&from=app&x=1"));
    }
    for target in &targets {
        for method in ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"] {
            // A POST for an upload with a digest nobody can read may open a session instead (as mounts do).
            let request = Request::new(method, target).header("Content-Type", oci::MANIFEST).bytes("{}");
            let Ok(answer) = victim.client.try_send(&request) else { continue };
            if method == "POST" && target.contains("?mount=") && answer.status == 202 {
                continue;
            }
            refused(&answer, &format!("{method} {target}"));
        }
    }
    victim.unharmed();
}

#[test]
fn an_upload_that_does_not_exist_is_unknown() {
    let victim = Victim::new();
    for id in [
        "nothing",
        "00000000-0000-0000-0000-000000000000",
        "..%2f..%2findex.json",
        "%2e%2e",
        &"x".repeat(3000),
    ] {
        for method in ["GET", "PATCH", "PUT", "DELETE"] {
            let target = format!("/v2/app/blobs/uploads/{id}?digest=sha256:{}", "a".repeat(64));
            refused(
                &victim.client.send(&Request::new(method, &target).bytes("x")),
                &format!("{method} {id}"),
            );
        }
    }
    victim.unharmed();
}

#[test]
fn an_upload_belongs_to_its_repository() {
    let victim = Victim::new();
    let location = victim.client.post("/v2/app/blobs/uploads/").expect(202).location();
    let stolen = location.replacen("/v2/app/", "/v2/other/", 1);
    assert_ne!(location, stolen);
    refused(
        &victim.client.send(&Request::new("PATCH", &stolen).bytes("x")),
        "an upload of another repository",
    );
    victim.client.send(&Request::new("PATCH", &location).bytes("x")).expect(202);
    victim.unharmed();
}

#[test]
fn a_blob_of_one_repository_is_not_there_in_another() {
    let victim = Victim::new();
    let digest = &victim.image.blobs[1].digest;
    victim.client.get(&format!("/v2/other/blobs/{digest}")).expect(404);
    victim.client.get(&format!("/v2/other/manifests/{}", victim.image.digest)).expect(404);
    victim.unharmed();
}

#[test]
fn paging_parameters_that_are_none_are_refused_or_ignored() {
    let victim = Victim::new();
    for query in [
        "n=-1",
        "n=x",
        "n=99999999999999999999",
        "n=",
        "last=%00",
        "last=../..",
        "n=0",
        "n=1&n=2",
        "%",
        "&&&=",
    ] {
        for list in ["/v2/app/tags/list", "/v2/_catalog"] {
            let answer = victim.client.get(&format!("{list}?{query}"));
            assert!(
                answer.status == 200 || (400..500).contains(&answer.status),
                "{} for {list}?{query}",
                answer.status
            );
        }
    }
    victim.unharmed();
}
