//! Projects.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use surf::http::Method;

use super::{super::Result, Harbor};

impl Harbor {
    /// HEAD: the cheapest test, allowed to everybody, and it tells absent from forbidden.
    pub(super) async fn has_project(&self, name: &str) -> Result<bool> {
        let path = format!("projects?project_name={}", utf8_percent_encode(name, NON_ALPHANUMERIC));
        let answer = self.api.call(Method::Head, &path, None).await?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(answer.refusal()),
        }
    }

    pub(super) async fn make_project(&self, name: &str, public: bool) -> Result<()> {
        if self.has_project(name).await? {
            return Ok(());
        }
        let body = json!({
            "project_name": name,
            "metadata": {"public": if public { "true" } else { "false" }},
            "storage_limit": -1,
        });
        let answer = self.api.call(Method::Post, "projects", Some(&body)).await?;
        match answer.status {
            // 409: somebody was faster, which is as good.
            201 | 409 => Ok(()),
            _ => Err(answer.refusal()),
        }
    }
}
