//! Debian's docker-registry in Harbor's place.

use crate::{STATE, failure, publishes, run, want};
use ground_control::central::{Central, Health, Plain, PlainSettings};
use satellite_core::net::Executor;
use satellite_core::net::client::{ClientConfig, surf_client};
use satellite_core::remote::Secret;
use satellite_tests::registry::{Options, PASSWORD, Registry, USER};
use satellite_tests::{has, skip};
use std::sync::Arc;

fn upstream(options: &Options) -> Option<Registry> {
    if Registry::available() && has("htpasswd") {
        return Some(Registry::with(options));
    }
    skip("central::plain", "docker-registry or htpasswd is missing; tests/install gets them");
    None
}

fn settings(registry: &Registry, password: &str) -> PlainSettings {
    PlainSettings {
        url: format!("http://{}", registry.host()),
        user: USER.into(),
        password: Secret::new(password),
        satellites: None,
    }
}

#[test]
fn any_registry_takes_states_with_a_password_or_with_tokens() {
    for options in
        [Options { basic: true, ..Options::default() }, Options { token: true, ..Options::default() }]
    {
        let Some(registry) = upstream(&options) else { return };
        run(async |client| {
            let central = Plain::new(settings(&registry, PASSWORD), client).unwrap();
            assert_eq!(central.health().await, Health::Well);
            publishes(&central).await;
        });
    }
}

#[test]
fn a_private_authority_is_trusted_if_it_is_named_and_no_other() {
    let Some(registry) = upstream(&Options { basic: true, tls: true, ..Options::default() }) else { return };
    let url = format!("https://localhost:{}", registry.address().port());
    run(async |client| {
        let settings = PlainSettings { url: url.clone(), ..settings(&registry, PASSWORD) };
        let stranger = Plain::new(settings.clone(), client).unwrap();
        assert_eq!(failure(stranger.publish(STATE, b"{}", 1).await), ("untrusted", false));
        assert!(matches!(stranger.health().await, Health::Away(_)));
    });
    let executor: Executor = Arc::new(smol::Executor::new());
    let config = ClientConfig { extra_roots: vec![registry.certs().ca.clone()], ..ClientConfig::default() };
    let client = surf_client(config, executor.clone()).unwrap();
    smol::block_on(executor.run(async {
        let settings = PlainSettings { url, ..settings(&registry, PASSWORD) };
        publishes(&Plain::new(settings, client).unwrap()).await;
    }));
}

#[test]
fn robots_are_the_one_credential() {
    let Some(registry) = upstream(&Options { basic: true, ..Options::default() }) else { return };
    run(async |client| {
        let own = Plain::new(settings(&registry, PASSWORD), client.clone()).unwrap();
        let robot = own.ensure_robot(&want("sat1", &["a"])).await.unwrap();
        assert_eq!((robot.id.as_str(), robot.login.as_str(), robot.expires_at), ("sat1", USER, None));
        assert_eq!(robot.secret.unwrap().expose(), PASSWORD);
        let satellites = Some(("reader".to_string(), Secret::new("read")));
        let apart =
            Plain::new(PlainSettings { satellites, ..settings(&registry, PASSWORD) }, client).unwrap();
        let robot = apart.rotate_robot("sat1").await.unwrap();
        assert_eq!((robot.login.as_str(), robot.secret.unwrap().expose()), ("reader", "read"));
        apart.delete_robot("sat1").await.unwrap();
        assert_eq!(apart.list_robots().await.unwrap(), []);
    });
}

#[test]
fn a_registry_that_refuses_or_is_gone_is_told_from_one_that_is_well() {
    let Some(registry) = upstream(&Options { basic: true, ..Options::default() }) else { return };
    run(async |client| {
        let central = Plain::new(settings(&registry, "wrong"), client.clone()).unwrap();
        assert!(matches!(central.health().await, Health::Ill(_)));
        assert_eq!(failure(central.publish(STATE, b"{}", 1).await), ("unauthorized", true));
        let gone = satellite_tests::ports::free();
        let gone = PlainSettings { url: format!("http://127.0.0.1:{gone}"), ..settings(&registry, PASSWORD) };
        let central = Plain::new(gone, client).unwrap();
        assert!(matches!(central.health().await, Health::Away(_)));
        assert_eq!(failure(central.publish(STATE, b"{}", 1).await), ("unreachable", true));
    });
}
