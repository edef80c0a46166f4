//! One call of Harbor's REST API.

use std::time::Duration;

use async_io::Timer;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_lite::{AsyncReadExt as _, future};
use satellite_core::{
    net::client::{ClientError, SurfClient},
    remote::Secret,
};
use serde::Deserialize;
use serde_json::Value;
use surf::http::{Method, Request};
use url::Url;

use super::{
    super::{Error, Health, Result},
    refusal,
};

/// Largest answer that is read: a page of 100 robots with 1,000 projects each.
const MAX_BODY: u64 = 16 << 20;
/// Longest wait for Harbor's own report of its health.
const HEALTH: Duration = Duration::from_secs(5);
/// Parts without which nothing of ours works.
const NEEDED: [&str; 4] = ["core", "database", "redis", "registry"];

pub(super) struct Api {
    base: Url,
    url: String,
    client: SurfClient,
    authorization: Secret,
    timeout: Duration,
    freeze: Duration,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// Harbor's clock, Unix seconds.
    pub(super) date: Option<i64>,
    /// What was asked, for errors.
    what: String,
}

impl Answer {
    pub(super) fn json<T: for<'de> Deserialize<'de>>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|e| {
            Error::transient("protocol", format!("{}: the answer cannot be read: {e}", self.what))
                .with_status(self.status)
        })
    }

    /// The answer as an error.
    pub(super) fn refusal(&self) -> Error {
        refusal::error(&self.what, self.status, &self.body)
    }
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(default)]
    name: String,
    #[serde(default)]
    status: String,
}

impl Api {
    pub(super) fn new(
        base: Url,
        client: SurfClient,
        user: &str,
        password: &Secret,
        timeout: Duration,
        freeze: Duration,
    ) -> Self {
        let authorization =
            Secret::new(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose()))));
        let url = base.as_str().trim_end_matches('/').to_string();
        Self { base, url, client, authorization, timeout, freeze }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Sends a call, whose path begins after `/api/v2.0/` and is encoded already. A 401 is believed only when Harbor says
    /// that it is well, and says 401 again after the time for which it freezes a user. Every call may be repeated: a
    /// refused one did nothing.
    ///
    /// # Errors
    /// `unreachable`, `timeout`, `ill`, `unauthorized`; other refusals are answers.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let mut believed = false;
        loop {
            let answer = self.once(method, path, body, true, self.timeout).await?;
            if answer.status != 401 {
                return Ok(answer);
            }
            match self.health().await {
                Health::Well if believed => return Err(answer.refusal()),
                Health::Well => {
                    believed = true;
                    Timer::after(self.freeze).await;
                }
                health => {
                    let text = format!("{}: Harbor answers 401, and is {health}", answer.what);
                    return Err(Error::transient("ill", text).with_status(401));
                }
            }
        }
    }

    /// Asked without credentials: Harbor answers it with its database down, and costs it nothing.
    pub(super) async fn health(&self) -> Health {
        let answer = match self.once(Method::Get, "health", None, false, HEALTH).await {
            Ok(answer) => answer,
            Err(error) => return Health::Away(error.to_string()),
        };
        if answer.status != 200 {
            return Health::Ill(format!("its health check answers {}", answer.status));
        }
        let Ok(report) = answer.json::<Report>() else {
            return Health::Ill("its health check cannot be read".into());
        };
        // Their texts name internal addresses; the parts' names are enough.
        let ill: Vec<&str> = report
            .components
            .iter()
            .filter(|c| NEEDED.contains(&c.name.as_str()) && c.status != "healthy")
            .map(|c| c.name.as_str())
            .collect();
        if ill.is_empty() { Health::Well } else { Health::Ill(format!("unhealthy: {}", ill.join(", "))) }
    }

    async fn once(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        authorized: bool,
        limit: Duration,
    ) -> Result<Answer> {
        let bare = path.split('?').next().unwrap_or_default();
        let what = format!("{method} {}/api/v2.0/{bare}", self.url);
        let late = async {
            Timer::after(limit).await;
            Err(Error::transient("timeout", format!("{what}: no answer in {} s", limit.as_secs_f32())))
        };
        future::or(self.exchange(method, path, body, authorized, &what), late).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        authorized: bool,
        what: &str,
    ) -> Result<Answer> {
        let bad = |e: &dyn std::fmt::Display| Error::permanent("protocol", format!("{what}: {e}"));
        let url = self.base.join(&format!("api/v2.0/{path}")).map_err(|e| bad(&e))?;
        let mut request = Request::new(method, url);
        request.insert_header("accept", "application/json");
        request.insert_header("user-agent", concat!("ground-control/", env!("CARGO_PKG_VERSION")));
        let id = request_id();
        request.insert_header("x-request-id", &id);
        if authorized {
            request.insert_header("authorization", self.authorization.expose());
        }
        if let Some(body) = body {
            request.set_body(body.to_string());
            request.insert_header("content-type", "application/json");
        }
        let mut response = self.client.send(request).await.map_err(|e| transport(what, e))?;
        let status = response.status().into();
        let date = response
            .header("date")
            .and_then(|v| httpdate::parse_http_date(v.as_str()).ok())
            .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok())
            .and_then(|d| i64::try_from(d.as_secs()).ok());
        let mut bytes = Vec::new();
        let read = response.take_body().take(MAX_BODY + 1).read_to_end(&mut bytes).await;
        read.map_err(|e| Error::transient("unreachable", format!("{what}: reading the answer: {e}")))?;
        if bytes.len() as u64 > MAX_BODY {
            return Err(bad(&format!("the answer has more than {MAX_BODY} bytes")));
        }
        if status == 401 || status >= 500 {
            log::warn!(request_id = id.as_str(); "{what}: Harbor answers {status}");
        }
        Ok(Answer { status, body: bytes, date, what: what.into() })
    }
}

fn transport(what: &str, error: surf::Error) -> Error {
    match error.downcast::<ClientError>() {
        Ok(cause @ ClientError::Timeout { .. }) => Error::transient("timeout", format!("{what}: {cause}")),
        Ok(cause) if cause.is_transient() => Error::transient("unreachable", format!("{what}: {cause}")),
        // A certificate that does not verify, mostly.
        Ok(cause) => Error::permanent("untrusted", format!("{what}: {cause}")),
        Err(other) => Error::transient("unreachable", format!("{what}: {other}")),
    }
}

/// Harbor writes it into its log.
fn request_id() -> String {
    let mut bytes = [0; 8];
    // Only a name: without a random source all have the same one.
    let _ = getrandom::fill(&mut bytes);
    format!("ground-control-{:016x}", u64::from_le_bytes(bytes))
}
