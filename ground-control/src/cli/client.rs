//! Calls of a running server.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use satellite_core::net::{
    Executor,
    client::{ClientConfig, SurfClient, surf_client},
};
use serde_json::Value;
use surf::http::{Method, Request, Url};

use super::{Failure, Result, read_password};

/// Rows asked for at once.
const PAGE: &str = "500";
/// Most bytes of an answer.
const MAX_ANSWER: usize = 64 << 20;

/// Which server, and as whom.
#[derive(Args, Clone)]
pub(super) struct Server {
    /// The server
    #[arg(
        long,
        env = "GROUND_CONTROL_URL",
        default_value = "http://127.0.0.1:9090",
        value_name = "URL",
        global = true
    )]
    url: String,
    /// A session's token, as `login` prints it
    #[arg(long, env = "GROUND_CONTROL_TOKEN", hide_env_values = true, value_name = "TOKEN", global = true)]
    token: Option<String>,
    /// A user's name; its password is GROUND_CONTROL_PASSWORD, or comes from standard input
    #[arg(long, env = "GROUND_CONTROL_USERNAME", value_name = "NAME", global = true)]
    username: Option<String>,
    #[arg(long, env = "GROUND_CONTROL_PASSWORD", hide = true, hide_env_values = true, global = true)]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, global = true)]
    password_stdin: bool,
    /// Trust this certification authority too (PEM)
    #[arg(long, value_name = "FILE", global = true)]
    ca_file: Vec<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// A server that can be asked.
pub(super) struct Api {
    client: SurfClient,
    base: Url,
    authorization: Option<String>,
}

impl Server {
    /// Runs `work` with the server.
    pub(super) fn call<T>(&self, work: impl AsyncFnOnce(&Api) -> Result<T>) -> Result<T> {
        let base = Url::parse(&self.url).map_err(|e| Failure::usage(format!("--url {}: {e}", self.url)))?;
        let executor: Executor = Arc::new(smol::Executor::new());
        let config = ClientConfig { extra_roots: self.ca_file.clone(), ..ClientConfig::from_env() };
        let client = surf_client(config, executor.clone()).map_err(Failure::usage)?;
        let api = Api { client, base, authorization: self.authorization()? };
        smol::block_on(executor.run(work(&api)))
    }

    fn authorization(&self) -> Result<Option<String>> {
        use base64::{Engine, prelude::BASE64_STANDARD};
        if let Some(name) = &self.username {
            let password = self.credentials()?;
            return Ok(Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))));
        }
        Ok(self.token.as_ref().map(|token| format!("Bearer {token}")))
    }

    /// The password that goes with the name.
    pub(super) fn credentials(&self) -> Result<String> {
        match &self.password {
            Some(password) if !self.password_stdin => Ok(password.clone()),
            _ => read_password(),
        }
    }

    /// The same server, as nobody.
    pub(super) fn without_credentials(self) -> Self {
        Self { token: None, username: None, ..self }
    }

    /// The name, or the first administrator's.
    pub(super) fn name(&self) -> &str {
        self.username.as_deref().unwrap_or("admin")
    }
}

impl Api {
    /// Sends a request; gives the answer's JSON, `null` for an empty one, and where the next page is.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(Value, Option<String>)> {
        let url = self.base.join(path).map_err(|e| Failure::usage(format!("{path}: {e}")))?;
        let mut request = Request::new(method, url);
        if let Some(authorization) = &self.authorization {
            request.insert_header("authorization", authorization.as_str());
        }
        if let Some(body) = body {
            request.insert_header("content-type", "application/json");
            request.set_body(body.to_string());
        }
        let away = |e: surf::Error| Failure::new(format!("{}: {e}", self.base));
        let mut response = self.client.send(request).await.map_err(away)?;
        let text = |name: &str| response.header(name).map(|v| v.as_str().to_string());
        let (detail, pending, link) = (text("error-detail"), text("outbox-pending"), text("link"));
        let status = u16::from(response.status());
        let bytes = response.body_bytes().await.map_err(away)?;
        if bytes.len() > MAX_ANSWER {
            return Err(Failure::new("the answer is too large"));
        }
        let value: Value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).trim().to_string().into())
        };
        if status >= 400 {
            let message = value.get("message").or_else(|| value.get("error")).and_then(Value::as_str);
            let message = message.map_or_else(|| format!("status {status}"), String::from);
            let detail = detail.map(|d| format!(" ({d})")).unwrap_or_default();
            let code = match status {
                404 => 3,
                401 | 403 => 4,
                _ => 1,
            };
            return Err(Failure { code, message: format!("{message}{detail}") });
        }
        if let Some(count) = pending {
            eprintln!("accepted; {count} changes wait for the registry (ground-control outbox)");
        }
        Ok((value, link))
    }

    /// A request.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.send(method, path, body).await.map(|(value, _)| value)
    }

    /// A whole list, page by page. `parameters` are names and values.
    pub(super) async fn list(&self, path: &str, parameters: &[(&str, Option<String>)]) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", PAGE);
            for (name, value) in parameters {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
            if let Some(after) = &after {
                query.append_pair("after", after);
            }
            let (value, link) = self.send(Method::Get, &format!("{path}?{}", query.finish()), None).await?;
            if let Value::Array(rows) = value {
                all.extend(rows);
            }
            after = link.and_then(|l| next(&l));
            if after.is_none() {
                return Ok(all);
            }
        }
    }
}

/// The cursor in `</api/…?limit=…&after=…>; rel="next"`.
fn next(link: &str) -> Option<String> {
    let query = link.split_once('?')?.1.split_once('>')?.0;
    url::form_urlencoded::parse(query.as_bytes()).find(|(k, _)| k == "after").map(|(_, v)| v.into_owned())
}

/// A name as one part of a path.
pub(super) fn part(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_in_the_link() {
        assert_eq!(next("</api/x?limit=5&after=a%2Fb&q=y>; rel=\"next\"").as_deref(), Some("a/b"));
        assert_eq!(next("<https://example.com>"), None);
    }
}
