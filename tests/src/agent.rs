//! A site under a fleet: Ground Control with images, and a machine on which `satellite run` is the agent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::dir::Dir;
use crate::ground_control::{Api, GroundControl, PASSWORD, Setup};
use crate::http::{Client, Request};
use crate::image::{Artifact, Image};
use crate::process::Daemon;
use crate::satellite::{BOUND, command};
use crate::{ports, wait};

/// Ground Control with images, and a machine for one satellite.
#[derive(Debug)]
pub struct Site {
    /// Ground Control, with its embedded registry.
    pub server: GroundControl,
    /// Its administrator.
    pub admin: Api,
    /// The agent's configuration directory, with its log in `log`.
    pub machine: PathBuf,
    /// Where the agent listens.
    pub address: SocketAddr,
    /// For what a test needs beside.
    pub dir: Dir,
}

/// Intervals in which a test sees something happen.
pub fn config(extra: &Value) -> Value {
    let every = "@every 00h00m01s";
    let mut app = json!({"log_level": "info", "state_replication_interval": every,
        "register_satellite_interval": every, "heartbeat_interval": every, "use_unsecure": true});
    app.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"app_config": app})
}

impl Site {
    /// One whose machine knows nothing yet.
    pub fn start() -> Self {
        Self::with(|setup, _| setup)
    }

    /// The same with a Ground Control of the test's own, which is told where it will listen.
    pub fn with(own: impl FnOnce(Setup, SocketAddr) -> Setup) -> Self {
        let dir = Dir::new();
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let server = own(Setup::new(dir.join("gc")), address).start_at(address);
        let admin = server.admin();
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let machine = dir.join("machine");
        std::fs::create_dir_all(&machine).unwrap();
        let site = Self { server, admin, machine, address, dir };
        site.own(&site.machine, json!({}));
        site
    }

    /// Writes what is the machine's own business into a configuration directory: where it listens, and more.
    pub fn own(&self, dir: &Path, mut more: Value) {
        more["zot_config"]["http"] =
            json!({"address": self.address.ip().to_string(), "port": self.address.port().to_string()});
        std::fs::write(dir.join("config.json"), more.to_string()).unwrap();
    }

    /// Pushes an image of 300 kB of noise to Ground Control's registry.
    pub fn image(&self, repository: &str, tag: &str, seed: u64) -> Artifact {
        let image = Image::new().noise(300_000, seed).build();
        image.push(&self.server.client().basic("admin", PASSWORD), repository, tag);
        image
    }

    /// Makes a configuration with short intervals, and these fields of `app_config`.
    pub fn publish(&self, name: &str, extra: &Value) {
        let body = json!({"config_name": name, "registry": "", "config": config(extra)});
        self.admin.post("/api/configs", &body).expect(201);
    }

    /// Starts the agent.
    pub fn run(&self, token: Option<&str>) -> Daemon {
        self.run_with(token, &[])
    }

    /// Starts the agent with more arguments.
    pub fn run_with(&self, token: Option<&str>, more: &[&str]) -> Daemon {
        Daemon::start("satellite run", &mut self.command(token, more), &self.machine.join("log"))
    }

    /// What starts the agent. Flags that are given here go before.
    pub fn command(&self, token: Option<&str>, more: &[&str]) -> Command {
        let url = self.server.url();
        let mut args = vec!["run", "--config-dir", self.machine.to_str().unwrap(), "--use-unsecure"];
        if !more.contains(&"--ground-control-url") {
            args.extend(["--ground-control-url", &url]);
        }
        args.extend(more);
        if let Some(token) = token {
            args.extend(["--token", token]);
        }
        command(args)
    }

    /// What `satellite status --json` says, once it does.
    pub fn status(&self) -> Option<Value> {
        let done =
            command(["status", "--json", "--config-dir", self.machine.to_str().unwrap()]).output().unwrap();
        serde_json::from_slice(&done.stdout).ok()
    }

    /// What `status` says, once nothing is missing, nothing is wrong, and Ground Control has answered.
    pub fn well(&self) -> Option<Value> {
        self.status().filter(|s| {
            s["state"]["missing"] == 0
                && s["troubles"] == json!([])
                && !s["ground_control"]["answered"].is_null()
        })
    }

    /// The cause code that Ground Control has of the satellite `gate`.
    pub fn cause(&self) -> Option<String> {
        let health = self.admin.read("/api/satellites/gate/health");
        health["last_error"]["cause"].as_str().map(String::from)
    }

    /// Waits for that many more heartbeats that were answered.
    pub fn beats(&self, agent: &mut Daemon, n: usize) {
        let beaten = || {
            let status = self.status()?;
            let beat = status["jobs"].as_array()?.iter().find(|j| j["name"] == "heartbeat")?;
            Some(beat["succeeded"].to_string())
        };
        for _ in 0..n {
            let last = beaten();
            self.wait(agent, "another heartbeat", || beaten().filter(|now| last.as_ref() != Some(now)));
        }
    }

    /// A client of what the agent serves.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Waits for something while the agent lives.
    pub fn wait<T>(&self, agent: &mut Daemon, what: &str, look: impl Fn() -> Option<T>) -> T {
        wait::until(BOUND, what, || {
            if let Some(status) = agent.ended() {
                panic!("satellite run ended ({status}): {}", agent.log());
            }
            look()
        })
    }

    /// Until the satellite serves an image.
    pub fn serves(&self, agent: &mut Daemon, repository: &str, tag: &str, image: &Artifact) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.wait(agent, &format!("{repository}:{tag}"), || {
            let answer = self.client().try_send(&Request::new("GET", &path)).ok()?;
            (answer.status == 200 && answer.body == image.manifest).then_some(())
        });
        image.check(&self.client(), repository, tag);
    }

    /// Until the satellite does not have an image any more.
    pub fn gone(&self, agent: &mut Daemon, repository: &str, tag: &str) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.wait(agent, &format!("{repository}:{tag} to go"), || {
            (self.client().try_send(&Request::new("GET", &path)).ok()?.status == 404).then_some(())
        });
    }
}
