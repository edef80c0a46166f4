//! Where user names and passwords come from: given, or Docker's `config.json` with its helpers.

use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use async_io::Timer;
use base64::{Engine as _, alphabet, engine::general_purpose::GeneralPurpose, engine::general_purpose::PAD};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use serde::Deserialize;

use super::{Error, Result, Secret, auth, error::tidy};

/// Longest time a `docker-credential-*` helper may take.
const HELPER_TIMEOUT: Duration = Duration::from_secs(20);
/// Most bytes taken from one, and of a file.
const MAX_HELPER_OUTPUT: u64 = 64 << 10;
const MAX_FILE: u64 = 1 << 20;

/// Who we are at a registry.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Nobody.
    #[default]
    Anonymous,
    /// A user or robot.
    Password {
        /// Its name.
        user: String,
        /// Its password or secret.
        password: Secret,
    },
    /// A user or robot whose password is in a file, as orchestrators give it. Read anew whenever a login is doubted,
    /// so that it can be changed in place; line ends at its end do not count.
    PasswordFile {
        /// Its name.
        user: String,
        /// Where the password is.
        path: PathBuf,
    },
    /// A refresh token for the registry's token service.
    IdentityToken(Secret),
    /// Whatever Docker's or Podman's files say for the registry's host.
    Docker(DockerConfig),
}

/// Credentials for one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    Anonymous,
    Password(String, Secret),
    Identity(Secret),
}

impl Resolved {
    pub(super) fn is_anonymous(&self) -> bool {
        *self == Self::Anonymous
    }

    pub(super) fn basic(&self) -> Option<Secret> {
        match self {
            Self::Password(user, password) => Some(auth::basic(user, password)),
            _ => None,
        }
    }

    pub(super) fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Anonymous => None,
            Self::Password(_, secret) | Self::Identity(secret) => Some(secret),
        }
    }
}

impl Credentials {
    /// Reads files and asks helpers, if that is where they are.
    pub(super) async fn resolve(&self, host: &str) -> Result<Resolved> {
        match self {
            Self::Anonymous => Ok(Resolved::Anonymous),
            Self::Password { user, password } => Ok(Resolved::Password(user.clone(), password.clone())),
            Self::PasswordFile { user, path } => {
                let fail = |cause: String| Error::Credentials {
                    host: host.into(),
                    cause: format!("{}: {cause}", path.display()),
                };
                let file = path.clone();
                let text = smol::unblock(move || read(&file)).await.map_err(|e| fail(e.to_string()))?;
                let text = text.ok_or_else(|| fail("there is no such file".into()))?;
                let text = String::from_utf8(text).map_err(|_| fail("not UTF-8".into()))?;
                Ok(Resolved::Password(user.clone(), text.trim_end_matches(['\r', '\n']).into()))
            }
            Self::IdentityToken(token) => Ok(Resolved::Identity(token.clone())),
            Self::Docker(files) => {
                files.resolve(host).await.map_err(|cause| Error::Credentials { host: host.into(), cause })
            }
        }
    }
}

/// Files in the format of Docker's `config.json`, read anew whenever credentials are needed. The first that knows the
/// host decides. Keys with a path (Podman's per-repository entries) are not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerConfig {
    files: Vec<PathBuf>,
}

impl DockerConfig {
    /// These files; one that does not exist knows nobody.
    pub fn from_files(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().collect() }
    }

    /// `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, then `$XDG_RUNTIME_DIR/containers/auth.json`.
    pub fn from_env() -> Self {
        let folder = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let docker = folder("DOCKER_CONFIG").or_else(|| folder("HOME").map(|home| home.join(".docker")));
        let podman = folder("XDG_RUNTIME_DIR").map(|run| run.join("containers/auth.json"));
        Self::from_files(docker.map(|d| d.join("config.json")).into_iter().chain(podman))
    }

    /// Where it looks, in order.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    async fn resolve(&self, host: &str) -> std::result::Result<Resolved, String> {
        for path in self.files.clone() {
            let shown = path.display().to_string();
            let Some(text) = smol::unblock(move || read(&path)).await.map_err(|e| format!("{shown}: {e}"))?
            else {
                continue;
            };
            // Line and column only: serde's text may quote a password.
            let file: File = serde_json::from_slice(&text)
                .map_err(|e| format!("{shown}: not valid at line {} column {}", e.line(), e.column()))?;
            if let Some(helper) = file.helper(host) {
                let found =
                    ask_helper(helper, host).await.map_err(|e| format!("{shown}: helper {helper}: {e}"))?;
                if !found.is_anonymous() {
                    return Ok(found);
                }
            }
            if let Some(found) = file.entry(host).map_err(|e| format!("{shown}: {e}"))? {
                return Ok(found);
            }
        }
        Ok(Resolved::Anonymous)
    }
}

fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text)?;
    Ok(Some(text))
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: HashMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: HashMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// A key's host in lower case; `None` for a key that is about less than a host. Docker writes
/// `https://index.docker.io/v1/` for the Hub.
fn normalise(key: &str) -> Option<String> {
    let key = key.trim();
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    if !matches!(path.trim_end_matches('/'), "" | "v1" | "v2") {
        return None;
    }
    let host = host.to_ascii_lowercase();
    Some(match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        _ => host,
    })
}

fn lookup<'a, T>(map: &'a HashMap<String, T>, host: &str) -> Option<&'a T> {
    let host = normalise(host)?;
    // The plain key wins over others that mean the same.
    map.get(&host).or_else(|| {
        let mut same: Vec<_> = map.iter().filter(|(k, _)| normalise(k).as_ref() == Some(&host)).collect();
        same.sort_by_key(|(k, _)| k.as_str());
        same.first().map(|(_, v)| *v)
    })
}

impl File {
    fn helper(&self, host: &str) -> Option<&str> {
        let named = lookup(&self.cred_helpers, host).or(self.creds_store.as_ref());
        named.map(String::as_str).filter(|h| !h.is_empty())
    }

    fn entry(&self, host: &str) -> std::result::Result<Option<Resolved>, String> {
        let Some(entry) = lookup(&self.auths, host) else { return Ok(None) };
        let some = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        if let Some(token) = some(&entry.identitytoken) {
            return Ok(Some(Resolved::Identity(token.into())));
        }
        if let Some(auth) = some(&entry.auth) {
            let (user, password) = decode(&auth).ok_or("an \"auth\" that is not base64 of USER:PASSWORD")?;
            return Ok(Some(Resolved::Password(user, password)));
        }
        Ok(some(&entry.username)
            .map(|user| Resolved::Password(user, entry.password.clone().unwrap_or_default().into())))
    }
}

fn decode(auth: &str) -> Option<(String, Secret)> {
    // Written by many hands, not all of which pad.
    let config = PAD.with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&alphabet::STANDARD, config).decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    // Docker itself pads the password with NUL.
    Some((user.to_string(), Secret::from(password.trim_matches('\0'))))
}

/// `docker-credential-<name> get` (docker-credential-helpers): the server on stdin, JSON on stdout.
async fn ask_helper(name: &str, host: &str) -> std::result::Result<Resolved, String> {
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err("bad name".into());
    }
    let server = match normalise(host).as_deref() {
        Some("docker.io") => "https://index.docker.io/v1/",
        _ => host,
    };
    let work = async {
        let mut child = smol::process::Command::new(format!("docker-credential-{name}"))
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| e.to_string())?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read its input may still answer.
            let _ = stdin.write_all(server.as_bytes()).await;
        }
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_HELPER_OUTPUT).read_to_end(&mut output).await.map_err(|e| e.to_string())?;
        }
        let status = child.status().await.map_err(|e| e.to_string())?;
        Ok((status.success(), output))
    };
    let late = async {
        Timer::after(HELPER_TIMEOUT).await;
        Err(format!("no answer in {} s", HELPER_TIMEOUT.as_secs()))
    };
    let (success, output) = future::or(work, late).await?;
    parse_helper(success, &output)
}

fn parse_helper(success: bool, output: &[u8]) -> std::result::Result<Resolved, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    if !success {
        let text = String::from_utf8_lossy(output);
        // The one message that the helpers' protocol fixes.
        return if text.contains("credentials not found") {
            Ok(Resolved::Anonymous)
        } else {
            Err(tidy(&text, 200))
        };
    }
    let answer: Answer = serde_json::from_slice(output).map_err(|_| "its answer is not valid")?;
    Ok(match answer.username.as_str() {
        "<token>" => Resolved::Identity(answer.secret.into()),
        _ => Resolved::Password(answer.username, answer.secret.into()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn password(user: &str, password: &str) -> Resolved {
        Resolved::Password(user.into(), password.into())
    }

    #[test]
    fn entries_are_found_under_the_names_docker_gives_them() {
        let file: File = serde_json::from_str(
            r#"{"auths":{
                "https://index.docker.io/v1/":{"auth":"aHViOnBhc3M="},
                "Harbor.example:5000":{"username":"robot$a","password":"p"},
                "http://plain.example/v2":{"auth":"YTpi"},
                "quay.io/team/app":{"auth":"YTpi"},
                "azure.example":{"auth":"MDA6","identitytoken":"refresh"},
                "empty.example":{},
                "bad.example":{"auth":"!"}
            },"credHelpers":{"ecr.example":"ecr-login"},"HttpHeaders":{"x":"y"}}"#,
        )
        .unwrap();
        let table = [
            ("docker.io", Some(password("hub", "pass"))),
            ("index.docker.io", Some(password("hub", "pass"))),
            ("harbor.example:5000", Some(password("robot$a", "p"))),
            ("harbor.example", None),
            ("plain.example", Some(password("a", "b"))),
            ("quay.io", None),
            ("azure.example", Some(Resolved::Identity("refresh".into()))),
            ("empty.example", None),
        ];
        for (host, expected) in table {
            assert_eq!(file.entry(host).unwrap(), expected, "{host}");
        }
        assert!(!file.entry("bad.example").unwrap_err().contains('!'));
        assert_eq!((file.helper("ecr.example"), file.helper("docker.io")), (Some("ecr-login"), None));
    }

    #[test]
    fn a_helpers_answer_is_read() {
        let found = parse_helper(true, br#"{"ServerURL":"h","Username":"u","Secret":"s"}"#);
        assert_eq!(found, Ok(password("u", "s")));
        let token = parse_helper(true, br#"{"Username":"<token>","Secret":"s"}"#);
        assert_eq!(token, Ok(Resolved::Identity("s".into())));
        assert_eq!(
            parse_helper(false, b"credentials not found in native keychain\n"),
            Ok(Resolved::Anonymous)
        );
        assert_eq!(parse_helper(false, b"locked\n"), Err("locked".into()));
        assert!(parse_helper(true, b"{\"Secret\":\"hidden\"}").is_err_and(|e| !e.contains("hidden")));
    }

    #[test]
    fn helpers_are_programs_on_the_path_and_nothing_else() {
        let result = smol::block_on(ask_helper("../../bin/sh", "h"));
        assert_eq!(result, Err("bad name".into()));
        assert!(smol::block_on(ask_helper("there-is-none-of-this-name", "h")).is_err());
    }

    #[test]
    fn files_are_read_in_order_and_secrets_stay_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        std::fs::write(&one, r#"{"auths":{"a.example":{"auth":"dTpwMQ"}}}"#).unwrap();
        std::fs::write(
            &two,
            r#"{"auths":{"a.example":{"auth":"dTpwMg=="},"b.example":{"auth":"dTpwMg=="}}}"#,
        )
        .unwrap();
        let files = DockerConfig::from_files([folder.path().join("absent"), one.clone(), two]);
        let resolve = |host: &str| smol::block_on(Credentials::Docker(files.clone()).resolve(host));
        assert_eq!(resolve("a.example").unwrap(), password("u", "p1"));
        assert_eq!(resolve("b.example").unwrap(), password("u", "p2"));
        assert_eq!(resolve("c.example").unwrap(), Resolved::Anonymous);
        std::fs::write(&one, r#"{"auths":{"a.example":{"auth":"hidden"#).unwrap();
        let error = resolve("a.example").unwrap_err().to_string();
        assert!(error.contains("one") && !error.contains("hidden"), "{error}");
        assert!(!format!("{:?}", password("u", "hidden")).contains("hidden"));
        let path = folder.path().join("password");
        std::fs::write(&path, "p w\r\n").unwrap();
        let file = |path| Credentials::PasswordFile { user: "u".into(), path };
        assert_eq!(smol::block_on(file(path).resolve("h")).unwrap(), password("u", "p w"));
        assert!(smol::block_on(file(folder.path().join("absent")).resolve("h")).is_err());
    }
}
