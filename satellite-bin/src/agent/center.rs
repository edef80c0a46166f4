//! The client of Ground Control: its five routes for satellites, and what its refusals mean.
//!
//! Only JSON of the shape that Ground Control speaks counts as its word. A captive portal's 200, or a proxy's 403, changes
//! nothing about who this satellite is.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_io::Timer;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_lite::{StreamExt, future};
use jiff::Timestamp;
use satellite_core::{
    fleet::{Sync, SyncAnswer, Ztr},
    net::{
        Executor,
        client::{
            CertificateClock, ClientConfig, ClientError, ClientIdentity, ReceiveStream, SurfClient,
            surf_client, take_stream,
        },
    },
    remote::Secret,
};
use serde_json::{Value, json};
use surf::http::{Method, Request, Response};
use url::Url;

use super::cause::{Cause, Trouble};

/// Largest answer, in bytes: digests of some thousand groups.
const MAX_ANSWER: usize = 1 << 20;
/// Longest time for a request, from connecting to the last byte.
const PATIENCE: Duration = Duration::from_secs(90);
/// Waited after a 429 that does not say how long.
const LIMITED: Duration = Duration::from_secs(60);
/// The connection stays open between heartbeats: a TLS handshake costs more than ten of them.
const KEEP: Duration = Duration::from_secs(900);

/// Where Ground Control is, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Scheme, host, port; a path before the routes is kept.
    pub url: Url,
    /// Whether plain HTTP may be spoken to hosts other than this machine.
    pub use_unsecure: bool,
    /// Further certification authorities (PEM); with SPIFFE the trust bundle.
    pub ca: Option<PathBuf>,
    /// Certificate and key to show (PEM); with SPIFFE the SVID. Read again when a file changes.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// SPIFFE ID that it must show, in place of its host's name.
    pub server_id: Option<String>,
}

/// Who calls.
#[derive(Clone, Debug)]
pub enum Login {
    /// The robot account.
    Robot {
        /// Its full name.
        username: String,
        /// Its secret.
        password: Secret,
    },
    /// The certificate of the connection.
    Certificate,
}

/// When the files were last changed, in their order.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// Ground Control, as one satellite sees it.
pub struct Center {
    address: Address,
    executor: Executor,
    clock: Option<CertificateClock>,
    client: Mutex<Option<(Stamp, SurfClient)>>,
    date: Mutex<Option<Timestamp>>,
}

impl std::fmt::Debug for Center {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Center({})", self.address.url.host_str().unwrap_or_default())
    }
}

impl Center {
    /// Nothing is sent yet, and no file is read.
    ///
    /// # Errors
    /// [`Cause::CENTER_TLS`] for plain HTTP where that was not allowed.
    pub fn new(address: Address, executor: Executor) -> Result<Self, Trouble> {
        let host = address.url.host_str().unwrap_or_default();
        let local = host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback());
        if address.url.scheme() != "https" && !(address.use_unsecure || local) {
            let message = format!("{host} would be spoken to in plain HTTP: use https, or set use_unsecure");
            return Err(Trouble::new(Cause::CENTER_TLS, message).slowly());
        }
        Ok(Self { address, executor, clock: None, client: Mutex::default(), date: Mutex::default() })
    }

    /// Judges certificates by another clock than the machine's.
    #[must_use]
    pub fn with_clock(self, clock: CertificateClock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Exchanges a token. `key` names this device's try, `device_key` is its public key (base64).
    ///
    /// # Errors
    /// Codes of `token`, `account` and `center`.
    pub async fn exchange(&self, token: &str, key: &str, device_key: &str) -> Result<Ztr, Trouble> {
        let path = format!("satellites/ztr/{token}");
        let headers = vec![("idempotency-key", key.into()), ("satellite-device-key", device_key.into())];
        let answer = self.call(Method::Get, &path, headers, None).await?;
        account(&answer, |status| match status {
            400 => Cause::TOKEN_USED,
            401 => Cause::TOKEN_EXPIRED,
            403 => Cause::ACCOUNT_REVOKED,
            _ => Cause::CENTER_REFUSED,
        })
    }

    /// The account of whoever the certificate names.
    ///
    /// # Errors
    /// Codes of `account` and `center`.
    pub async fn by_certificate(&self) -> Result<Ztr, Trouble> {
        account(&self.call(Method::Get, "satellites/spiffe-ztr", Vec::new(), None).await?, refusal)
    }

    /// A new secret.
    ///
    /// # Errors
    /// Codes of `account` and `center`.
    pub async fn credentials(&self, login: &Login) -> Result<Ztr, Trouble> {
        let headers = login.headers();
        account(&self.call(Method::Post, "satellites/credentials", headers, Some(Vec::new())).await?, refusal)
    }

    /// Reports. `None`: the reference's server, which says nothing.
    ///
    /// # Errors
    /// [`Cause::ACCOUNT_REFUSED`], [`Cause::ACCOUNT_REVOKED`], codes of `center`.
    pub async fn sync(&self, login: &Login, body: &Sync) -> Result<Option<SyncAnswer>, Trouble> {
        let mut headers = login.headers();
        headers.push(("accept", "application/json".into()));
        let body = lean(body).map_err(|e| Trouble::new(Cause::CENTER_REFUSED, e))?;
        let answer = self.call(Method::Post, "satellites/sync", headers, Some(body)).await?;
        answer.good(refusal)?;
        SyncAnswer::from_body(&answer.body).map_err(|_| answer.foreign())
    }

    /// What time the last good answer said it was, once; only over TLS, where nobody else can have said it.
    pub fn date(&self) -> Option<Timestamp> {
        self.date.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Asks for something to sign, for a device whose account ran out.
    ///
    /// # Errors
    /// [`Cause::DEVICE_UNKNOWN`] where the server knows no such route or device; codes of `center`.
    pub async fn challenge(&self, name: &str) -> Result<String, Trouble> {
        let value = self.json("satellites/enroll/challenge", &json!({"name": name})).await?;
        let nonce = value["nonce"].as_str().filter(|n| !n.is_empty() && n.len() <= 512);
        nonce.map(Into::into).ok_or_else(|| Trouble::new(Cause::CENTER_NOT_JSON, "a challenge without nonce"))
    }

    /// Gives the signature for the account.
    ///
    /// # Errors
    /// As [`challenge`](Self::challenge).
    pub async fn enroll(&self, name: &str, nonce: &str, signature: &str) -> Result<Ztr, Trouble> {
        let body = json!({"name": name, "nonce": nonce, "signature": signature});
        whole(serde_json::from_value(self.json("satellites/enroll", &body).await?).unwrap_or_default())
    }

    async fn json(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        let answer = self.call(Method::Post, path, Vec::new(), Some(body.to_string().into_bytes())).await?;
        answer.good(|status| match status {
            403 => Cause::ACCOUNT_REVOKED,
            400 | 401 | 404 | 405 => Cause::DEVICE_UNKNOWN,
            _ => Cause::CENTER_REFUSED,
        })?;
        serde_json::from_slice(&answer.body).map_err(|_| answer.foreign())
    }

    /// The client, made anew when a file is another than before.
    fn client(&self) -> Result<SurfClient, Trouble> {
        let Address { ca, identity, .. } = &self.address;
        let files = ca.iter().chain(identity.iter().flat_map(|(c, k)| [c, k]));
        let stamp = files
            .map(|path| std::fs::metadata(path).ok().and_then(|m| Some((m.modified().ok()?, m.len()))))
            .collect();
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, made)) = client.as_ref().filter(|(before, _)| *before == stamp) {
            return Ok(made.clone());
        }
        let config = ClientConfig {
            extra_roots: ca.iter().cloned().collect(),
            identity: identity.clone().map(|(certificate, key)| ClientIdentity { certificate, key }),
            idle_timeout: KEEP,
            max_idle: 1,
            max_buffer: 16 << 10,
            server_uri: self.address.server_id.clone(),
            clock: self.clock.clone(),
            ..ClientConfig::from_env()
        };
        let made =
            surf_client(config, self.executor.clone()).map_err(|e| Trouble::new(Cause::TLS_FILES, e))?;
        *client = Some((stamp, made.clone()));
        Ok(made)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: Vec<(&'static str, String)>,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Trouble> {
        let host = self.address.url.host_str().unwrap_or_default().to_string();
        let mut url = self.address.url.clone();
        url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
        let late = Trouble::new(Cause::CENTER_UNREACHABLE, format!("{host}: no whole answer within 90 s"));
        // A kept connection may have been closed by the other side; a heartbeat that came twice does no harm.
        for last in [false, true] {
            let mut request = Request::new(method, url.clone());
            request.insert_header("user-agent", concat!("satellite/", env!("CARGO_PKG_VERSION")));
            for (name, value) in &headers {
                if !value.is_ascii() {
                    return Err(Trouble::new(Cause::CENTER_REFUSED, format!("{name} is not ASCII")).slowly());
                }
                request.insert_header(*name, value.as_str());
            }
            if let Some(body) = &body {
                request.insert_header("content-type", "application/json");
                request.set_body(body.clone());
            }
            request.ext_mut().insert(ReceiveStream);
            let client = self.client()?;
            let work = async { answer(&host, client.send(request).await).await };
            let timer = async {
                Timer::after(PATIENCE).await;
                Err((late.clone(), false))
            };
            match future::or(Box::pin(work), timer).await {
                Ok(answer) => {
                    if url.scheme() == "https" && answer.status == 200 {
                        *self.date.lock().unwrap_or_else(PoisonError::into_inner) = answer.date;
                    }
                    return Ok(answer);
                }
                Err((_, true)) if !last => {}
                Err((trouble, _)) => return Err(trouble),
            }
        }
        Err(late)
    }
}

/// The heartbeat. To a server that knows what is unchanged, what has no value is left out too: it is ours.
fn lean(sync: &Sync) -> serde_json::Result<Vec<u8>> {
    if sync.unchanged.is_empty() {
        return serde_json::to_vec(sync);
    }
    let mut value = serde_json::to_value(sync)?;
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, v| *v != json!("") && *v != json!(0) && *v != json!(0.0));
    }
    serde_json::to_vec(&value)
}

impl Login {
    fn headers(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Certificate => Vec::new(),
            Self::Robot { username, password } => {
                let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
                vec![("authorization", format!("Basic {pair}"))]
            }
        }
    }
}

struct Answer {
    host: String,
    status: u16,
    retry_after: Option<Duration>,
    date: Option<Timestamp>,
    body: Vec<u8>,
}

/// The error says whether the exchange broke off, which another try may mend.
async fn answer(host: &str, sent: Result<surf::Response, surf::Error>) -> Result<Answer, (Trouble, bool)> {
    let mut response: Response = match sent {
        Ok(response) => response.into(),
        Err(error) => {
            let cut = matches!(error.downcast_ref::<ClientError>(), Some(ClientError::Http { .. }));
            let distrust = match error.downcast_ref::<ClientError>() {
                Some(e @ ClientError::Tls { .. }) => !e.is_transient(),
                _ => false,
            };
            let cause = if distrust { Cause::CENTER_TLS } else { Cause::CENTER_UNREACHABLE };
            return Err((Trouble::new(cause, format!("{host}: {error}")), cut));
        }
    };
    let retry_after = response
        .header("retry-after")
        .and_then(|v| v.as_str().trim().parse::<u64>().ok())
        .map(|s| Duration::from_secs(s.min(86_400)));
    let date = response.header("date").and_then(|v| jiff::fmt::rfc2822::parse(v.as_str()).ok());
    let date = date.map(|zoned| zoned.timestamp());
    let status = response.status().into();
    let mut body = Vec::new();
    if let Some(mut stream) = take_stream(&mut response) {
        while let Some(piece) = stream.next().await {
            let broken = |e| (Trouble::new(Cause::CENTER_UNREACHABLE, format!("{host}: {e}")), true);
            body.extend_from_slice(&piece.map_err(broken)?);
            if body.len() > MAX_ANSWER {
                let message = format!("{host}: an answer of more than {MAX_ANSWER} bytes");
                return Err((Trouble::new(Cause::CENTER_NOT_JSON, message), false));
            }
        }
    }
    Ok(Answer { host: host.into(), status, retry_after, date, body })
}

impl Answer {
    /// Anything but 200 is a trouble; `meaning` says which, where Ground Control itself refuses.
    fn good(&self, meaning: impl Fn(u16) -> Cause) -> Result<(), Trouble> {
        if self.status == 200 {
            return Ok(());
        }
        // A registry's or gateway's JSON is not Ground Control's.
        let said = serde_json::from_slice::<Value>(&self.body).ok().and_then(|v| {
            ["message", "error"].into_iter().find_map(|k| v.get(k)?.as_str().map(String::from))
        });
        let text = format!("{}: status {} {}", self.host, self.status, said.as_deref().unwrap_or_default());
        match self.status {
            429 => Err(Trouble::new(Cause::CENTER_LIMITED, text).after(self.retry_after.unwrap_or(LIMITED))),
            500.. => {
                let trouble = Trouble::new(Cause::CENTER_FAILED, text);
                Err(Trouble { retry_after: self.retry_after, ..trouble })
            }
            400..500 if said.is_some() || self.status == 404 => {
                Err(Trouble::new(meaning(self.status), text).slowly())
            }
            _ => Err(self.foreign()),
        }
    }

    fn foreign(&self) -> Trouble {
        let message = format!(
            "{}: what answers is not Ground Control (status {}): a portal or proxy in the way, or a wrong URL",
            self.host, self.status
        );
        Trouble::new(Cause::CENTER_NOT_JSON, message)
    }
}

fn refusal(status: u16) -> Cause {
    match status {
        401 => Cause::ACCOUNT_REFUSED,
        403 => Cause::ACCOUNT_REVOKED,
        _ => Cause::CENTER_REFUSED,
    }
}

fn account(answer: &Answer, meaning: impl Fn(u16) -> Cause) -> Result<Ztr, Trouble> {
    answer.good(meaning)?;
    whole(serde_json::from_slice(&answer.body).map_err(|_| answer.foreign())?)
}

fn whole(account: Ztr) -> Result<Ztr, Trouble> {
    if account.is_whole() {
        return Ok(account);
    }
    let message = "Ground Control gave an account without URL, name, secret or state";
    Err(Trouble::new(Cause::ACCOUNT_INCOMPLETE, message))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answered(status: u16, body: &str) -> Cause {
        let answer = Answer {
            host: "gc".into(),
            status,
            retry_after: None,
            date: None,
            body: body.as_bytes().to_vec(),
        };
        answer.good(refusal).unwrap_err().cause
    }

    #[test]
    fn only_ground_controls_own_word_is_a_refusal() {
        assert_eq!(answered(401, r#"{"message":"Invalid credentials","code":401}"#), Cause::ACCOUNT_REFUSED);
        assert_eq!(answered(403, r#"{"message":"satellite is revoked"}"#), Cause::ACCOUNT_REVOKED);
        let registry = r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#;
        for (status, body) in [(401, "<html>login</html>"), (401, registry), (403, ""), (302, ""), (204, "")]
        {
            assert_eq!(answered(status, body), Cause::CENTER_NOT_JSON, "{status}");
        }
        assert_eq!(answered(429, ""), Cause::CENTER_LIMITED);
        assert_eq!(answered(502, "<html>"), Cause::CENTER_FAILED);
    }

    #[test]
    fn plain_http_is_spoken_only_where_it_was_allowed() {
        let make = |url: &str, use_unsecure| {
            let address = Address {
                url: url.parse().unwrap(),
                use_unsecure,
                ca: None,
                identity: None,
                server_id: None,
            };
            Center::new(address, Executor::default()).is_ok()
        };
        assert!(make("https://gc.example", false) && make("http://127.0.0.1:1", false));
        assert!(make("http://gc.example", true) && !make("http://gc.example", false));
    }

    #[test]
    fn an_account_with_a_hole_is_none() {
        let json = r#"{"state":"http://h/s:latest","auth":{"url":"http://h","username":"u","password":""}}"#;
        let trouble = whole(serde_json::from_str(json).unwrap()).unwrap_err();
        assert_eq!(trouble.cause, Cause::ACCOUNT_INCOMPLETE);
    }
}
