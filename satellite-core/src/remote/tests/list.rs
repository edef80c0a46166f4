//! Lists, over sockets.

use super::*;
use crate::net::client::script::{reply, run};

fn index(entries: &[(&str, &str)]) -> String {
    let entries: Vec<_> = entries
        .iter()
        .map(|(content, kind)| {
            let digest = Digest::sha256(content.as_bytes());
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":3,"artifactType":"{kind}"}}"#
            )
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
        entries.join(",")
    )
}

#[test]
fn pages_are_followed_to_the_end_and_nowhere_else() {
    run(async |executor| {
        let server = Script::start(|s| match s.target.as_str() {
            "/v2/edge/app/tags/list?n=1000" => reply(
                "200 OK",
                "Link: </v2/edge/app/tags/list?last=b&n=2>; rel=\"next\"\r\n",
                r#"{"name":"edge/app","tags":["a","b","not a tag"]}"#,
            ),
            "/v2/edge/app/tags/list?last=b&n=2" => reply("200 OK", "", r#"{"tags":["c"]}"#),
            "/v2/_catalog?n=1000" => reply("200 OK", "", r#"{"repositories":["edge/app","x"]}"#),
            t if t.contains("round") => {
                reply("200 OK", &format!("Link: <{t}>; rel=\"next\"\r\n"), r#"{"tags":["a"]}"#)
            }
            t if t.contains("away") => {
                reply("200 OK", "Link: <http://other.example/>; rel=\"next\"\r\n", r#"{"tags":["a"]}"#)
            }
            t if t.contains("empty") => reply("200 OK", "", r#"{"tags":null}"#),
            t if t.contains("junk") => reply("200 OK", "", "<html>"),
            _ => reply("404 Not Found", "", r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#),
        });
        let registry = registry(&server, quick(), executor);
        let tags = async |repository: &str| registry.tags(&repository.parse().unwrap()).await;
        let texts: Vec<_> = tags("edge/app").await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["a", "b", "c"]);
        assert_eq!(registry.catalog().await.unwrap().len(), 2);
        assert!(tags("empty").await.unwrap().is_empty());
        for odd in ["round", "away", "junk"] {
            assert!(matches!(tags(odd).await, Err(Error::Protocol { .. })), "{odd}");
        }
        assert!(tags("gone").await.unwrap_err().is_not_found());
    });
}

#[test]
fn referrers_come_from_the_api_or_from_the_tag_that_stands_in() {
    run(async |executor| {
        let subject = Digest::sha256(b"subject");
        let fallback = format!("/v2/old/manifests/sha256-{}", subject.hex());
        let server = Script::start(move |s| match s.target.as_str() {
            t if t.starts_with("/v2/new/referrers/") => {
                reply("200 OK", "", index(&[("a", "sbom"), ("b", "sig/x+y")]))
            }
            t if t.starts_with("/v2/broken/referrers/") => reply("500 Oops", "", ""),
            t if *t == fallback => reply(
                "200 OK",
                "Content-Type: application/vnd.oci.image.index.v1+json\r\n",
                index(&[("c", "sbom")]),
            ),
            _ => reply("404 Not Found", "", ""),
        });
        let registry = registry(&server, quick(), executor);
        let ask = async |repository: &str, kind| {
            let list = registry.referrers(&repository.parse().unwrap(), &subject, kind).await;
            list.map(|l| l.len())
        };
        assert_eq!(ask("new", None).await.unwrap(), 2);
        assert_eq!(ask("new", Some("sig/x+y")).await.unwrap(), 1);
        assert!(server.lines()[1].ends_with("?artifactType=sig%2Fx%2By"));
        assert_eq!(ask("old", None).await.unwrap(), 1);
        assert_eq!(ask("old", Some("none")).await.unwrap(), 0);
        assert_eq!(ask("neither", None).await.unwrap(), 0);
        assert_eq!(ask("broken", None).await.unwrap_err().status(), Some(500));
        assert!(!server.lines().iter().any(|l| l.contains("/v2/broken/manifests")));
    });
}
