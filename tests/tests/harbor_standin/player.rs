//! Plays recorded calls, and fills in what only this run knows.

use crate::record::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use satellite_tests::harbor::Harbor;
use satellite_tests::http::{Body, Client, Request, Response};
use satellite_tests::oci;
use serde_json::Value;
use std::collections::HashMap;

/// A stand-in, and what recorded names mean at it.
pub(crate) struct Player {
    pub(crate) harbor: Harbor,
    client: Client,
    /// Recorded text → text here: digests and secrets.
    pub(crate) known: HashMap<String, String>,
    /// Addresses that each recorded upload had, oldest first, and the bytes sent to it.
    uploads: HashMap<String, (Vec<String>, Vec<u8>)>,
    /// Tokens got earlier, by a name.
    pub(crate) kept: HashMap<&'static str, String>,
    sid: String,
    csrf: (String, String),
}

impl Player {
    pub(crate) fn new(harbor: Harbor) -> Self {
        let client = Client::new(harbor.address());
        let mut known = HashMap::new();
        known.insert("admin-password".into(), harbor.password());
        known.insert("gcuser-password".into(), "GcUser12345".into());
        Self {
            harbor,
            client,
            known,
            uploads: HashMap::new(),
            kept: HashMap::new(),
            sid: String::new(),
            csrf: (String::new(), String::new()),
        }
    }

    /// A client with a robot's own secret.
    pub(crate) fn robot(&self, login: &str) -> Client {
        let robot = self.harbor.robots().into_iter().find(|robot| robot.name == login);
        let robot = robot.unwrap_or_else(|| panic!("no robot {login}"));
        self.client.clone().basic(login, &robot.secret)
    }

    pub(crate) fn admin(&self) -> Client {
        self.harbor.client()
    }

    /// A call of the administrator's that must work.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Response {
        let request = Request::new(method, path).header("Content-Type", "application/json");
        let answer = self.admin().send(&request.bytes(body.to_string()));
        assert!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.text());
        answer
    }

    /// A token for some scopes, separated by blanks.
    pub(crate) fn token(&self, who: &Client, scopes: &str) -> String {
        let scopes = scopes.replace(' ', "%20");
        let path = format!("/service/token?service=harbor-registry&scope={scopes}");
        who.get(&path).expect(200).json()["token"].as_str().unwrap().to_owned()
    }

    /// Puts a blob there, by that client.
    pub(crate) fn push_blob(&self, who: &Client, repository: &str, bytes: &[u8]) -> String {
        let digest = oci::sha256(bytes);
        let begun = who.post(&format!("/v2/{repository}/blobs/uploads/")).expect(202);
        let put = Request::new("PUT", &format!("{}&digest={digest}", begun.location())).bytes(bytes);
        who.send(&put).expect(201);
        digest
    }

    /// Makes up the blobs that a manifest names and the repository lacks; the recording left most pushes of blobs out.
    pub(crate) fn push_content(&mut self, repository: &str, manifest: &Value) {
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for entry in manifest.get("config").into_iter().chain(layers).filter(|e| !e["urls"].is_array()) {
            let digest = entry["digest"].as_str().unwrap();
            let here = self.known.get(digest).cloned().unwrap_or_else(|| digest.to_owned());
            let admin = self.admin();
            if admin.head(&format!("/v2/{repository}/blobs/{here}")).status == 200 {
                continue;
            }
            let size = usize::try_from(entry["size"].as_u64().unwrap()).unwrap();
            let guesses =
                [b"{}".to_vec(), b"{\"v\":1}".to_vec(), b"{\"v\":2}".to_vec(), b"{\"v\":3}".to_vec()];
            let bytes = guesses.into_iter().find(|guess| oci::sha256(guess) == digest);
            let bytes = bytes.unwrap_or_else(|| oci::noise(size, size as u64));
            let made = self.push_blob(&admin, repository, &bytes);
            self.known.insert(digest.into(), made);
        }
    }

    pub(crate) fn play(&mut self, record: &Record) -> Response {
        if let Some(location) = record.all["location"].as_str() {
            // Numbers are used up by what fails, too: they are set to what they were.
            let id = location.rsplit('/').next().and_then(|id| id.parse::<u64>().ok());
            match (record.path.as_str(), id) {
                ("/api/v2.0/robots", Some(id)) => self.harbor.set_next_robot(id),
                ("/api/v2.0/projects", Some(id)) => self.harbor.set_next_project(id),
                _ => {}
            }
        }
        // First: the digest of a manifest is also in the path that it goes to.
        let body = self.body(record);
        let target = self.target(record);
        let mut request = Request::new(&record.method, &target);
        for (name, value) in record.all["headers"].as_object().into_iter().flatten() {
            let value = value.as_str().expect("a header's text");
            let value = match name.as_str() {
                "Authorization" => self.authorization(record, value),
                "Cookie" => self.cookies(value),
                "X-Harbor-CSRF-Token" => self.csrf.0.clone(),
                "Transfer-Encoding" => {
                    request.body = Body::Chunked(vec![b"hel".to_vec(), b"lo".to_vec()]);
                    continue;
                }
                _ => self.fill(value),
            };
            request = request.header(name, &value);
        }
        if let Some(body) = body {
            self.remember_bytes(record, &body);
            request = request.bytes(body);
        } else if matches!(record.method.as_str(), "POST" | "PUT" | "PATCH")
            && matches!(request.body, Body::None)
        {
            request = request.header("Content-Length", "0");
        }
        request.target = self.closing(record, &request.target);
        let answer = self.client.send(&request);
        self.learn(record, &answer);
        answer
    }

    /// Texts of the recording, in the words of this run.
    fn fill(&self, text: &str) -> String {
        let mut text = text.replace("{host}", &self.harbor.host());
        for (recorded, here) in self.known.iter().filter(|(recorded, _)| recorded.starts_with("sha256:")) {
            text = text.replace(recorded, here);
        }
        text.replace("{admin-password}", &self.harbor.password())
    }

    fn target(&mut self, record: &Record) -> String {
        let path = self.fill(&record.path).replace("/quotas/66", "/quotas/67");
        let Some((start, rest)) = path.split_once("/blobs/uploads/0") else { return path };
        // An upload: at the address that it has now, or for some cases had before.
        let id = format!("0{}", rest.split('?').next().unwrap());
        if !self.uploads.contains_key(&id) {
            let begun = self.pusher(record).post(&format!("{start}/blobs/uploads/")).expect(202);
            self.uploads.insert(id.clone(), (vec![begun.location()], Vec::new()));
        }
        let addresses = &self.uploads[&id].0;
        let back = if record.case.contains("stale-state") { 2 } else { 1 };
        let address = addresses[addresses.len() - back].clone();
        let address =
            address.split('?').next().filter(|_| !path.contains('?')).map_or(address.clone(), str::to_owned);
        match path.split_once("&digest=") {
            Some((_, digest)) => format!("{address}&digest={digest}"),
            None => address,
        }
    }

    fn pusher(&self, record: &Record) -> Client {
        if record.who == "basic admin" { self.admin() } else { self.robot("robot$pusher") }
    }

    /// The digest of what was really sent, where the recorded bytes are not known.
    fn closing(&mut self, record: &Record, target: &str) -> String {
        let recorded = record.path.split_once("&digest=").map(|(_, digest)| digest);
        let Some(recorded) = recorded.filter(|d| d.starts_with("sha256:") && record.status() == 201) else {
            return target.into();
        };
        let bytes = &self.uploads[&upload_id(record)].1;
        let here = oci::sha256(bytes);
        self.known.insert(recorded.into(), here.clone());
        let address = target.split_once("&digest=").map_or(target, |(address, _)| address);
        format!("{address}&digest={here}")
    }

    fn body(&mut self, record: &Record) -> Option<Vec<u8>> {
        let manifest =
            record.method == "PUT" && record.path.contains("/manifests/") && record.status() == 201;
        if manifest {
            let recorded: Value = serde_json::from_slice(&record.body().unwrap()).unwrap();
            let repository =
                record.path.trim_start_matches("/v2/").split("/manifests/").next().unwrap().to_owned();
            self.push_content(&repository, &recorded);
        }
        let body = record.body()?;
        if record.all["noise"].is_u64() {
            return Some(body);
        }
        let body = self.fill(&String::from_utf8(body).unwrap()).into_bytes();
        if let Some(digest) = record.all["digest"].as_str().filter(|_| manifest) {
            self.known.insert(digest.into(), oci::sha256(&body));
        }
        Some(body)
    }

    fn remember_bytes(&mut self, record: &Record, body: &[u8]) {
        if let Some(upload) = self.uploads.get_mut(&upload_id(record)) {
            upload.1.extend_from_slice(body);
        }
    }

    /// `Basic {name:password}` or `Bearer {jwt}`.
    fn authorization(&self, record: &Record, value: &str) -> String {
        if value == "Bearer {jwt}" {
            return format!("Bearer {}", self.bearer(record));
        }
        let Some(pair) = value.strip_prefix("Basic {").and_then(|rest| rest.strip_suffix('}')) else {
            return value.into();
        };
        let name = record.who.trim_start_matches("basic ");
        let password = pair.rsplit_once(':').map_or("...", |(_, password)| password);
        let password = match self.known.get(password) {
            Some(here) => here.clone(),
            None if password.contains("...") => {
                let robots = self.harbor.robots();
                let robot = robots.iter().find(|robot| robot.name == name);
                robot.map_or_else(|| self.harbor.password(), |robot| robot.secret.clone())
            }
            None => password.to_owned(),
        };
        format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
    }

    /// The recording does not say whose token it was; the case's name does.
    fn bearer(&self, record: &Record) -> String {
        let kept = [
            ("revoke.", "tmp"),
            ("narrow.", "narrow"),
            ("token.expired.", "soon"),
            ("token.expired-", "late"),
        ];
        if let Some((_, name)) = kept.iter().find(|(start, _)| record.case.starts_with(start)) {
            return self.kept[name].clone();
        }
        let puller = || self.robot("robot$sat-01");
        let pusher = || self.robot("robot$pusher");
        match record.case.as_str() {
            "pull.blob.token-of-other-repo-same-project" => {
                self.token(&puller(), "repository:edge/other:pull")
            }
            "pull.blob.token-of-other-project" => self.token(&puller(), "repository:satellite/app:pull"),
            "pull.manifest.token-without-actions" => self.token(&self.client, "repository:edge/app:pull"),
            "pull.manifest.unknown-project-with-token" => self.token(&puller(), "repository:nosuch/app:pull"),
            "push.denied.robot-pull-only" => self.token(&puller(), "repository:edge/app:pull,push"),
            "mount.no-right-on-source.bearer" => {
                let scopes = "repository:satellite/x:pull,push repository:edge/app:pull";
                self.token(&self.robot("robot$satpush"), scopes)
            }
            case if case.starts_with("push.") => {
                self.token(&pusher(), "repository:edge/app:pull,push repository:satellite/app:pull,push")
            }
            _ => self.token(&puller(), "repository:edge/app:pull"),
        }
    }

    fn cookies(&self, recorded: &str) -> String {
        let sid = format!("sid={}", self.sid);
        if recorded.contains("_gorilla_csrf") { format!("{sid}; _gorilla_csrf={}", self.csrf.1) } else { sid }
    }

    fn learn(&mut self, record: &Record, answer: &Response) {
        if let Some(recorded) = record.all["secret"].as_str() {
            let secret = answer.json()["secret"].as_str().unwrap_or_default().to_owned();
            self.known.insert(recorded.into(), secret);
        }
        if record.path.contains("/blobs/uploads/") && matches!(answer.status, 202 | 204) {
            let id = match answer.header("docker-upload-uuid") {
                Some(_) if record.method == "POST" => self.next_upload(record),
                _ => upload_id(record),
            };
            if answer.header("location").is_some() {
                self.uploads.entry(id).or_default().0.push(answer.location());
            }
        }
        let cookie = |name: &str| {
            let lines = answer.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case("set-cookie"));
            lines.into_iter().find_map(|(_, value)| {
                Some(value.strip_prefix(name)?.strip_prefix('=')?.split(';').next()?.to_owned())
            })
        };
        if let Some(sid) = cookie("sid") {
            self.sid = sid;
        }
        if let (Some(token), Some(value)) = (answer.header("x-harbor-csrf-token"), cookie("_gorilla_csrf")) {
            self.csrf = (token.to_owned(), value);
        }
    }

    /// The number that the recording gives to the upload that this record begins.
    fn next_upload(&self, record: &Record) -> String {
        let number = match record.n {
            182 => 1,
            188 => 2,
            193 => 3,
            194 => 4,
            196 => 5,
            210 => 6,
            443 => 21,
            444 => 22,
            n => panic!("record {n} begins an upload that no other goes on with"),
        };
        format!("00000000-0000-4000-8000-{number:012}")
    }

    /// Goes on with an upload apart from the recording: a part that is taken, and one that is cut.
    pub(crate) fn cut_upload(&mut self, id: &str, taken: &[u8], cut: &[u8]) {
        let address = self.uploads[id].0.last().unwrap().clone();
        let pusher = self.robot("robot$pusher");
        let next = pusher.send(&Request::new("PATCH", &address).bytes(taken)).expect(202).location();
        let announced = cut.len() as u64 * 2;
        let broken = Request::new("PATCH", &next).body(Body::Cut { announced, sent: cut.to_vec() });
        assert!(pusher.try_send(&broken).is_err(), "nobody answers what was cut");
        self.uploads.get_mut(id).unwrap().0.push(next);
    }
}

/// The recorded number of an upload; empty for other records.
fn upload_id(record: &Record) -> String {
    let rest = record.path.split_once("/blobs/uploads/").map_or("", |(_, rest)| rest);
    rest.split('?').next().unwrap_or_default().to_owned()
}
