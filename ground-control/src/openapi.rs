//! The head of the API's description; the rest stands at the handlers.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Description,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

/// OpenAPI 3.1.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ground Control",
        description = "Which images each satellite of a fleet holds, with which rights, and how it fares. Routes and JSON are those of Harbor Satellite's ground control, and more in the same style."
    ),
    modifiers(&Schemes)
)]
pub(crate) struct Document;

/// Bearer and Basic, either of which every route takes unless it says otherwise.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut Description) {
        let scheme = |s| SecurityScheme::Http(Http::new(s));
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("session", scheme(HttpAuthScheme::Bearer));
        components.add_security_scheme("basic", scheme(HttpAuthScheme::Basic));
        let none: [&str; 0] = [];
        document.security =
            Some(vec![SecurityRequirement::new("session", none), SecurityRequirement::new("basic", none)]);
    }
}
