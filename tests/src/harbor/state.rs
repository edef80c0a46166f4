//! What a stand-in holds.

use super::clock::Clock;
use super::{Harbor, login};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct State {
    pub(super) clock: Clock,
    /// Seals tokens.
    pub(super) key: String,
    pub(super) config: Config,
    pub(super) users: Vec<User>,
    pub(super) projects: BTreeMap<u64, Project>,
    pub(super) robots: BTreeMap<u64, Account>,
    /// By full name.
    pub(super) repositories: BTreeMap<String, Repository>,
    /// By digest, whoever has them.
    pub(super) blobs: HashMap<String, Arc<Vec<u8>>>,
    pub(super) uploads: HashMap<String, Upload>,
    pub(super) rules: Vec<Rule>,
    /// User by `sid`.
    pub(super) sessions: HashMap<String, String>,
    /// Names that failed to log in just now.
    pub(super) frozen: HashSet<String>,
    pub(super) next_project: u64,
    pub(super) next_robot: u64,
    next: u64,
}

#[derive(Debug)]
pub(super) struct Config {
    pub(super) prefix: String,
    pub(super) token_minutes: i64,
    pub(super) read_only: bool,
}

#[derive(Debug)]
pub(super) struct User {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) password: String,
}

#[derive(Debug)]
pub(super) struct Project {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) public: bool,
    pub(super) metadata: Map<String, Value>,
    pub(super) owner: String,
    /// Bytes; -1: none.
    pub(super) limit: i64,
    pub(super) created: String,
    /// Project administrators.
    pub(super) members: BTreeSet<String>,
}

/// A robot account.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) id: u64,
    /// Without prefix.
    pub(super) name: String,
    /// The project of a project-level one.
    pub(super) project: Option<u64>,
    pub(super) description: String,
    pub(super) secret: String,
    pub(super) disable: bool,
    pub(super) duration: i64,
    /// Unix seconds, and as printed.
    pub(super) created: (i64, String),
    pub(super) expires_at: i64,
    pub(super) creator: (u64, &'static str),
    pub(super) permissions: Vec<Permission>,
}

#[derive(Debug, Clone)]
pub(super) struct Permission {
    pub(super) kind: String,
    pub(super) scope: Scope,
    pub(super) access: Vec<Access>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    System,
    All,
    Project(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) resource: String,
    pub(super) action: String,
    pub(super) effect: String,
}

#[derive(Debug)]
pub(super) struct Repository {
    pub(super) id: u64,
    pub(super) created: String,
    pub(super) updated: String,
    pub(super) pulls: u64,
    /// Digests that may be asked for here.
    pub(super) blobs: BTreeSet<String>,
    /// By digest.
    pub(super) artifacts: BTreeMap<String, Stored>,
    /// Digest and facts by name.
    pub(super) tags: BTreeMap<String, Tag>,
}

#[derive(Debug)]
pub(super) struct Stored {
    pub(super) id: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) media_type: String,
    pub(super) pushed: String,
}

#[derive(Debug)]
pub(super) struct Tag {
    pub(super) id: u64,
    pub(super) digest: String,
    pub(super) pushed: String,
}

#[derive(Debug)]
pub(super) struct Upload {
    pub(super) repository: String,
    pub(super) bytes: Vec<u8>,
    /// What the last answered request's address says; another one is refused.
    pub(super) state: String,
}

/// Tags that match it cannot be changed. `*` at the end of a pattern is all that is understood of doublestar.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: u64,
    pub(super) project: u64,
    pub(super) body: Value,
}

impl State {
    pub(super) fn new() -> Self {
        let admin = User { id: 1, name: Harbor::ADMIN.into(), password: "Harbor12345".into() };
        let config = Config { prefix: "robot$".into(), token_minutes: 30, read_only: false };
        let mut state = Self {
            clock: Clock::default(),
            key: login::random(32),
            config,
            users: vec![admin],
            projects: BTreeMap::new(),
            robots: BTreeMap::new(),
            repositories: BTreeMap::new(),
            blobs: HashMap::new(),
            uploads: HashMap::new(),
            rules: Vec::new(),
            sessions: HashMap::new(),
            frozen: HashSet::new(),
            next_project: 1,
            next_robot: 1,
            next: 1,
        };
        state.make_project("library", true, -1, Harbor::ADMIN);
        state
    }

    /// A number that nothing else has.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn project_named(&self, name: &str) -> Option<&Project> {
        self.projects.values().find(|project| project.name == name)
    }

    pub(super) fn make_project(&mut self, name: &str, public: bool, limit: i64, owner: &str) -> u64 {
        if let Some(project) = self.project_named(name) {
            return project.id;
        }
        let id = self.next_project;
        self.next_project += 1;
        let created = self.clock.stamp();
        let members = BTreeSet::from([owner.to_owned()]);
        let (name, owner) = (name.to_owned(), owner.to_owned());
        let metadata = Map::from_iter([("public".into(), public.to_string().into())]);
        self.projects.insert(id, Project { id, name, public, metadata, owner, limit, created, members });
        id
    }

    /// Takes away a project and what hangs on it; robots keep what they have elsewhere.
    pub(super) fn drop_project(&mut self, id: u64) {
        self.projects.remove(&id);
        self.robots.retain(|_, robot| robot.project != Some(id));
        for robot in self.robots.values_mut() {
            robot.permissions.retain(|permission| permission.scope != Scope::Project(id));
        }
    }

    /// The project that a repository's name begins with.
    pub(super) fn project_of(&self, repository: &str) -> Option<&Project> {
        self.project_named(repository.split_once('/')?.0)
    }

    pub(super) fn repository_mut(&mut self, name: &str) -> &mut Repository {
        let stamp = self.clock.stamp();
        let id = self.number();
        self.repositories.entry(name.into()).or_insert_with(|| Repository {
            id,
            created: stamp.clone(),
            updated: stamp,
            pulls: 0,
            blobs: BTreeSet::new(),
            artifacts: BTreeMap::new(),
            tags: BTreeMap::new(),
        })
    }

    /// Bytes that a project's blobs and manifests take, each once.
    pub(super) fn used(&self, project: &str) -> i64 {
        let mut sizes = HashMap::new();
        let inside = self.repositories.iter().filter(|(name, _)| name.split('/').next() == Some(project));
        for (_, repository) in inside {
            for digest in &repository.blobs {
                sizes.insert(digest.clone(), self.blobs.get(digest).map_or(0, |bytes| bytes.len()));
            }
            for (digest, artifact) in &repository.artifacts {
                sizes.insert(digest.clone(), artifact.bytes.len());
            }
        }
        i64::try_from(sizes.values().sum::<usize>()).expect("a size that fits")
    }

    /// Whether a rule holds that tag as it is.
    pub(super) fn is_immutable(&self, repository: &str, tag: &str) -> bool {
        let Some(project) = self.project_of(repository) else { return false };
        let matches = |selector: &Value| {
            let pattern = selector["pattern"].as_str().unwrap_or_default();
            let hit = match pattern.trim_end_matches('*') {
                start if start.len() < pattern.len() => tag.starts_with(start),
                whole => tag == whole,
            };
            hit == (selector["decoration"] == "matches")
        };
        let mut rules = self.rules.iter().filter(|rule| rule.project == project.id);
        rules.any(|rule| rule.body["tag_selectors"].as_array().into_iter().flatten().any(matches))
    }
}

impl Account {
    /// The name with the prefix that is set now.
    pub(super) fn login(&self, state: &State) -> String {
        let prefix = &state.config.prefix;
        match self.project.and_then(|id| state.projects.get(&id)) {
            Some(project) => format!("{prefix}{}+{}", project.name, self.name),
            None => format!("{prefix}{}", self.name),
        }
    }

    pub(super) fn is_alive(&self, now: i64) -> bool {
        !self.disable && (self.expires_at < 0 || self.expires_at > now)
    }

    pub(super) fn may(&self, project: Option<u64>, resource: &str, action: &str) -> bool {
        self.permissions.iter().any(|permission| {
            let covers = match (permission.scope, project) {
                (Scope::System, None) | (Scope::All, Some(_)) => true,
                (Scope::Project(own), Some(id)) => own == id,
                _ => false,
            };
            let same = |a: &&Access| a.resource == resource && a.action == action;
            covers && permission.access.iter().filter(same).any(|a| a.effect != "deny")
        })
    }

    /// For the world outside.
    pub(super) fn shown(&self, state: &State) -> super::Robot {
        let mut rights: Vec<String> = self
            .permissions
            .iter()
            .flat_map(|p| {
                let scope = p.scope.name(state);
                p.access.iter().map(move |a| format!("{scope}:{}:{}", a.resource, a.action))
            })
            .collect();
        rights.sort();
        super::Robot {
            id: self.id,
            name: self.login(state),
            description: self.description.clone(),
            secret: self.secret.clone(),
            duration: self.duration,
            expires_at: self.expires_at,
            disabled: self.disable,
            rights,
        }
    }
}

impl Scope {
    pub(super) fn name(self, state: &State) -> String {
        match self {
            Self::System => "/".into(),
            Self::All => "*".into(),
            Self::Project(id) => state.projects.get(&id).map(|p| p.name.clone()).unwrap_or_default(),
        }
    }
}

impl Repository {
    /// What a tag or digest names.
    pub(super) fn digest<'a>(&'a self, reference: &'a str) -> Option<&'a str> {
        let digest = match self.tags.get(reference) {
            Some(tag) => tag.digest.as_str(),
            None => reference,
        };
        self.artifacts.contains_key(digest).then_some(digest)
    }

    pub(super) fn tags_of<'a>(&'a self, digest: &'a str) -> impl Iterator<Item = &'a str> {
        self.tags.iter().filter(move |(_, tag)| tag.digest == digest).map(|(name, _)| name.as_str())
    }
}

impl Stored {
    /// The manifest, parsed.
    pub(super) fn manifest(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| json!({}))
    }

    /// The digest that it is about.
    pub(super) fn subject(&self) -> Option<String> {
        self.manifest()["subject"]["digest"].as_str().map(str::to_owned)
    }
}
