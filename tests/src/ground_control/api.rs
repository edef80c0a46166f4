//! Calls of the server's routes, as a user or as a satellite.

use crate::http::{Client, Request, Response};
use base64::Engine as _;
use serde_json::{Value, json};

/// Somebody who calls the server.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    authorization: Option<String>,
}

/// What a satellite gets for its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Robot {
    /// The registry's base URL.
    pub url: String,
    /// The account's full name.
    pub username: String,
    /// Its secret.
    pub password: String,
    /// The satellite's state artifact.
    pub state: String,
}

impl Robot {
    /// From the answer of a token exchange.
    #[track_caller]
    pub fn of(answer: &Value) -> Self {
        let text =
            |value: &Value| value.as_str().unwrap_or_else(|| panic!("a string in {answer}")).to_owned();
        Self {
            url: text(&answer["auth"]["url"]),
            username: text(&answer["auth"]["username"]),
            password: text(&answer["auth"]["password"]),
            state: text(&answer["state"]),
        }
    }

    /// `Basic …`.
    pub fn authorization(&self) -> String {
        basic(&self.username, &self.password)
    }
}

/// `Basic …` of a name and password.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// A heartbeat as a satellite without images sends it.
pub fn heartbeat(name: &str) -> Value {
    json!({"name": name, "activity": "", "state_report_interval": "@every 00h00m30s",
        "latest_state_digest": "", "latest_config_digest": "", "memory_used_bytes": 1000,
        "storage_used_bytes": 2000, "cpu_percent": 12.5, "request_created_time": "2026-11-24T12:00:00Z",
        "last_sync_duration_ms": 0, "image_count": 0})
}

impl Api {
    pub(super) fn new(client: Client, authorization: Option<String>) -> Self {
        Self { client, authorization }
    }

    /// The client, for what is said without these credentials.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The header `Authorization` of all calls.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// The same server, other credentials.
    pub fn with(&self, authorization: impl Into<String>) -> Self {
        Self { client: self.client.clone(), authorization: Some(authorization.into()) }
    }

    /// The same server as that satellite.
    pub fn robot(&self, robot: &Robot) -> Self {
        self.with(robot.authorization())
    }

    /// A request with these credentials, ready for a body.
    pub fn request(&self, method: &str, path: &str) -> Request {
        let request = Request::new(method, path);
        match &self.authorization {
            Some(value) => request.header("Authorization", value),
            None => request,
        }
    }

    /// Sends a request without a body.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str) -> Response {
        let request = self.request(method, path);
        // What may have a body says that it has none.
        let request = if method == "GET" { request } else { request.header("Content-Length", "0") };
        self.client.send(&request)
    }

    /// Sends a request with JSON.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Response {
        self.client.send(&self.json(method, path, body))
    }

    /// A request with JSON, for those who want to see I/O errors.
    pub fn json(&self, method: &str, path: &str, body: &Value) -> Request {
        self.request(method, path).header("Content-Type", "application/json").bytes(body.to_string())
    }

    /// GET.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.call("GET", path)
    }

    /// GET of JSON that must succeed.
    #[track_caller]
    pub fn read(&self, path: &str) -> Value {
        self.get(path).expect(200).json()
    }

    /// POST.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.send("POST", path, body)
    }

    /// PATCH.
    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Response {
        self.send("PATCH", path, body)
    }

    /// DELETE.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Response {
        self.call("DELETE", path)
    }

    /// The same server as a user, after a login that must succeed.
    #[track_caller]
    pub fn login(&self, user: &str, password: &str) -> Self {
        let answer = self.post("/login", &json!({"username": user, "password": password})).expect(200).json();
        self.with(format!("Bearer {}", answer["token"].as_str().expect("a token")))
    }

    /// Makes a user of role `admin` and logs in.
    #[track_caller]
    pub fn user(&self, name: &str, password: &str) -> Self {
        self.post("/api/users", &json!({"username": name, "password": password})).expect(201);
        self.login(name, password)
    }

    /// Makes or replaces a group of artifacts: `(repository, tag, digest)`.
    #[track_caller]
    pub fn group(&self, name: &str, artifacts: &[(&str, &str, &str)]) -> Value {
        let artifact = |(repository, tag, digest): &(&str, &str, &str)| json!({"repository": repository, "tag": [tag], "type": "docker", "digest": digest});
        let artifacts: Vec<Value> = artifacts.iter().map(artifact).collect();
        let body = json!({"group": name, "registry": "", "artifacts": artifacts});
        self.post("/api/groups/sync", &body).expect(200).json()
    }

    /// Makes a configuration that has little in it.
    #[track_caller]
    pub fn config(&self, name: &str) {
        let config = json!({"state_config": {}, "app_config": {"log_level": "info",
            "heartbeat_interval": "@every 00h00m30s", "state_replication_interval": "@every 00h00m30s"}});
        self.post("/api/configs", &json!({"config_name": name, "config": config})).expect(201);
    }

    /// Registers a satellite; gives its token.
    #[track_caller]
    pub fn register(&self, name: &str, groups: &[&str], config: &str) -> String {
        let body = json!({"name": name, "groups": groups, "config_name": config});
        let answer = self.post("/api/satellites", &body).expect(200).json();
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// Exchanges a token for an account.
    #[track_caller]
    pub fn exchange(&self, token: &str) -> Robot {
        Robot::of(&self.get(&format!("/satellites/ztr/{token}")).expect(200).json())
    }

    /// Registers a satellite and exchanges its token.
    #[track_caller]
    pub fn enrol(&self, name: &str, groups: &[&str], config: &str) -> Robot {
        self.exchange(&self.register(name, groups, config))
    }

    /// Sends a heartbeat as that satellite.
    #[track_caller]
    pub fn sync(&self, robot: &Robot, body: &Value) -> Response {
        self.robot(robot).post("/satellites/sync", body)
    }
}
