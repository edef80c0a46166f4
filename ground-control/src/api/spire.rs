//! SPIFFE. This server trusts certificates of its trust domain and runs no SPIRE of its own, so there are no agents to list
//! and no join tokens to make; a satellite can be registered ahead of its first call.

use axum::extract::State;
use http::StatusCode;
use satellite_core::fleet::Name;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Ctx, Refused, ztr::welcome};
use crate::{
    auth::SystemAdmin,
    db::satellites,
    http::{Answer, Error, Json, json as reply},
    spiffe,
};

fn not_configured() -> Error {
    Error::new(StatusCode::SERVICE_UNAVAILABLE, "SPIRE server not configured")
}

/// Whether certificates are gone by.
#[derive(Serialize, ToSchema)]
pub struct Status {
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    trust_domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'static str>,
    connected: bool,
}

/// Whether certificates are gone by.
#[utoipa::path(get, path = "/api/spire/status", tag = "spiffe", responses((status = 200, body = Status), Refused))]
pub async fn status(State(app): Ctx, _: SystemAdmin) -> Answer {
    let domain = app.settings.spiffe_domain.clone();
    let provider = domain.is_some().then_some("external");
    reply(
        StatusCode::OK,
        &Status { enabled: domain.is_some(), connected: domain.is_some(), trust_domain: domain, provider },
    )
}

/// Agents of a SPIRE server; this server has none.
#[utoipa::path(get, path = "/api/spire/agents", tag = "spiffe", responses(Refused))]
pub async fn agents(State(_): Ctx, _: SystemAdmin) -> Answer {
    Err(not_configured())
}

/// A satellite that will come with a certificate.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct Registration {
    satellite_name: Option<String>,
    region: Option<String>,
    selectors: Option<Vec<String>>,
    attestation_method: Option<String>,
    parent_agent_id: Option<String>,
}

/// What was registered.
#[derive(Serialize, ToSchema)]
pub struct Registered {
    satellite: String,
    region: String,
    spiffe_id: String,
    parent_agent_id: String,
    spire_server_address: String,
    spire_server_port: u16,
    trust_domain: String,
}

/// Registers a satellite that will come with a certificate.
#[utoipa::path(post, path = "/api/satellites/register", tag = "spiffe", request_body = Registration, responses((status = 200, body = Registered), Refused))]
pub async fn register(
    State(app): Ctx,
    SystemAdmin(by): SystemAdmin,
    Json(body): Json<Registration>,
) -> Answer {
    let name = body.satellite_name.unwrap_or_default();
    if name.is_empty() {
        return Err(Error::bad("satellite_name is required"));
    }
    name.parse::<Name>().map_err(|e| Error::bad(format!("satellite_name: {e}")))?;
    let region = body.region.filter(|r| !r.is_empty()).unwrap_or_else(|| "default".into());
    region.parse::<Name>().map_err(|e| Error::bad(format!("region: {e}")))?;
    let selectors = body.selectors.unwrap_or_default();
    if selectors.is_empty() {
        return Err(Error::bad("at least one selector is required"));
    }
    if let Some(bad) = selectors.iter().find(|s| !s.contains(':')) {
        return Err(Error::bad(format!(
            "invalid selector {:?}: expected type:value",
            bad.chars().take(80).collect::<String>()
        )));
    }
    let method = body.attestation_method.unwrap_or_default();
    if !["join_token", "x509pop", "sshpop"].contains(&method.as_str()) {
        return Err(Error::bad("attestation_method must be one of join_token, x509pop, sshpop"));
    }
    let parent = body.parent_agent_id.unwrap_or_default();
    if method == "sshpop" && parent.is_empty() {
        return Err(Error::bad("parent_agent_id is required for sshpop"));
    }
    // Join tokens are SPIRE's to make.
    let Some(domain) = app.settings.spiffe_domain.clone().filter(|_| method != "join_token") else {
        return Err(not_configured());
    };
    if satellites::by_name(&mut *app.db.read().await?, &name).await?.is_none() {
        welcome(&app, &by.origin, &name, "spiffe_register").await?;
    }
    reply(
        StatusCode::OK,
        &Registered {
            spiffe_id: spiffe::id(&domain, &region, &name),
            satellite: name,
            region,
            parent_agent_id: parent,
            spire_server_address: String::new(),
            spire_server_port: 0,
            trust_domain: domain,
        },
    )
}
