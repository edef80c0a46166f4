//! State artifacts as a satellite reads them: a plain client, the robot's credentials, nothing else.

use super::Robot;
use crate::http::Client;
use crate::oci;
use serde_json::Value;
use std::io::Read as _;

/// A client of the registry that the robot belongs to, with its credentials.
#[track_caller]
pub fn registry(robot: &Robot) -> Client {
    let host = robot.url.trim_start_matches("http://");
    Client::new(host.parse().expect("an address")).basic(&robot.username, &robot.password)
}

/// Repository and tag of a state's URL, `http://HOST/REPOSITORY:TAG`.
#[track_caller]
pub fn place(url: &str) -> (String, String) {
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).expect("a URL with a path").1;
    let (repository, tag) = path.rsplit_once(':').expect("a tag");
    (repository.to_owned(), tag.to_owned())
}

/// What is in `artifacts.json` of the artifact at that URL; `None` if there is none.
#[track_caller]
pub fn read(client: &Client, url: &str) -> Option<Value> {
    let (repository, tag) = place(url);
    let answer = client.get(&format!("/v2/{repository}/manifests/{tag}"));
    if answer.status == 404 {
        return None;
    }
    let answer = answer.expect(200);
    assert_eq!(answer.header("content-type"), Some(oci::DOCKER_MANIFEST));
    let manifest = answer.json();
    let layers = manifest["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 1, "{manifest}");
    assert_eq!(layers[0]["mediaType"], oci::DOCKER_LAYER);
    let digest = layers[0]["digest"].as_str().expect("a digest");
    let layer = client.get(&format!("/v2/{repository}/blobs/{digest}")).expect(200).body;
    assert_eq!(oci::sha256(&layer), digest);
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(layer.as_slice()));
    let mut text = String::new();
    for entry in archive.entries().expect("a tar archive") {
        let mut entry = entry.expect("an entry");
        if entry.path().expect("a path").to_str() == Some("artifacts.json") {
            entry.read_to_string(&mut text).expect("text");
        }
    }
    Some(serde_json::from_str(&text).expect("JSON in artifacts.json"))
}
