//! Where artifacts and robots live, seen through the one trait that the server knows: Harbor (the stand-in, well and ill),
//! any registry (Debian's docker-registry), and the embedded one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod embedded;
mod failures;
mod harbor;
mod plain;

use ground_control::central::{Central, Error, RobotWant};
use satellite_core::net::Executor;
use satellite_core::net::client::{ClientConfig, SurfClient, surf_client};
use std::future::Future;
use std::sync::Arc;

/// What is published in these tests.
const STATE: &str = "satellite/group-state/g1/state";

/// Runs a test with a client.
fn run<F: Future>(test: impl FnOnce(SurfClient) -> F) -> F::Output {
    let executor: Executor = Arc::new(smol::Executor::new());
    let client = surf_client(ClientConfig::default(), executor.clone()).unwrap();
    smol::block_on(executor.run(test(client)))
}

fn want(name: &str, projects: &[&str]) -> RobotWant {
    RobotWant {
        name: name.into(),
        projects: projects.iter().map(|p| (*p).to_string()).collect(),
        days: 30,
        known_id: None,
    }
}

/// Code of a failure, and whether it may pass.
fn failure<T>(result: Result<T, Error>) -> (&'static str, bool) {
    match result {
        Ok(_) => ("none", false),
        Err(error) => (error.code(), error.is_transient()),
    }
}

/// What every kind of central does alike.
async fn publishes(central: &dyn Central) -> [String; 2] {
    central.ensure_project("satellite", false).await.unwrap();
    assert_eq!(central.resolve(STATE, "latest").await.unwrap(), None);
    central.unpublish(STATE).await.unwrap();
    let first = central.publish(STATE, b"{\"v\":1}", 1000).await.unwrap();
    assert_eq!(central.resolve(STATE, "latest").await.unwrap(), Some(first.clone()));
    assert_eq!(central.resolve(STATE, "1000").await.unwrap(), Some(first.clone()));
    // The same again moves nothing, not even the time's tag.
    assert_eq!(central.publish(STATE, b"{\"v\":1}", 1001).await.unwrap(), first);
    assert_eq!(central.resolve(STATE, "1001").await.unwrap(), None);
    let second = central.publish(STATE, b"{\"v\":2}", 1002).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(central.resolve(STATE, "latest").await.unwrap(), Some(second.clone()));
    assert_eq!(central.resolve(STATE, "1000").await.unwrap(), None, "what it replaced is gone");
    assert_eq!(central.publish(STATE, b"{\"v\":1}", 1003).await.unwrap(), first, "back to what it was");
    let other = "satellite/config-state/c1/state";
    central.publish(other, b"{}", 1003).await.unwrap();
    central.unpublish(STATE).await.unwrap();
    central.unpublish(STATE).await.unwrap();
    assert_eq!(central.resolve(STATE, "latest").await.unwrap(), None);
    assert!(central.resolve(other, "latest").await.unwrap().is_some());
    assert_eq!(failure(central.publish("Bad/Name", b"{}", 1).await), ("name", false));
    assert_eq!(failure(central.publish(STATE, &vec![b' '; 17 << 20], 1).await), ("too_large", false));
    [first, second]
}
