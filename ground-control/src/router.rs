//! Every route.

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state, response::Response, routing::get};
use http::{HeaderValue, header};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        audit, configs, enroll, events, groups, health, images, lifecycle, login, members, outbox,
        satellites, spire, status, sync, users, ztr,
    },
    app::App,
    http::{not_allowed, not_found, observe},
    openapi::Document,
};

/// All of them, with their description.
fn described() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        // Anybody.
        .routes(routes!(health::ping))
        .routes(routes!(health::health))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(login::login))
        // Satellites.
        .routes(routes!(ztr::exchange))
        .routes(routes!(ztr::by_certificate))
        .routes(routes!(ztr::credentials))
        .routes(routes!(enroll::challenge))
        .routes(routes!(enroll::enroll))
        .routes(routes!(sync::sync))
        // Users.
        .routes(routes!(login::logout))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::own_password))
        .routes(routes!(users::get, users::delete))
        .routes(routes!(users::password))
        // Groups.
        .routes(routes!(groups::list))
        .routes(routes!(groups::sync))
        .routes(routes!(members::add, members::remove))
        .routes(routes!(groups::get, groups::delete))
        .routes(routes!(groups::state))
        .routes(routes!(groups::selector))
        .routes(routes!(members::list))
        // Configurations.
        .routes(routes!(configs::list, configs::create))
        .routes(routes!(configs::assign))
        .routes(routes!(configs::get, configs::patch, configs::delete))
        // Satellites, managed.
        .routes(routes!(satellites::list, satellites::register))
        .routes(routes!(satellites::active))
        .routes(routes!(satellites::stale))
        .routes(routes!(spire::register))
        .routes(routes!(satellites::get, satellites::delete))
        .routes(routes!(status::status))
        .routes(routes!(status::history))
        .routes(routes!(events::list))
        .routes(routes!(status::images))
        .routes(routes!(status::health))
        .routes(routes!(lifecycle::labels))
        .routes(routes!(lifecycle::token))
        .routes(routes!(lifecycle::suspend))
        .routes(routes!(lifecycle::resume))
        .routes(routes!(lifecycle::revoke))
        .routes(routes!(lifecycle::rotate))
        // The whole fleet.
        .routes(routes!(images::lacking))
        .routes(routes!(images::holding))
        .routes(routes!(audit::list))
        .routes(routes!(outbox::list))
        .routes(routes!(outbox::retry))
        .routes(routes!(spire::status))
        .routes(routes!(spire::agents))
}

/// The description of the API, OpenAPI 3.1, as JSON.
pub fn openapi() -> String {
    let (_, document) = described().split_for_parts();
    document.to_pretty_json().unwrap_or_else(|e| {
        log::error!("the description of the API cannot be printed: {e}");
        String::from("{}")
    })
}

/// The routes over the server's parts.
pub fn routes(app: Arc<App>) -> Router {
    let (router, document) = described().split_for_parts();
    let text: Arc<str> = document.to_json().unwrap_or_else(|_| String::from("{}")).into();
    let serve = move || {
        let text = Arc::clone(&text);
        async move {
            let mut response = Response::new(axum::body::Body::from(text.to_string()));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
    };
    router
        .route("/openapi.json", get(serve))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app)
}
