//! What an answer says of changes that central has not got yet.

use axum::response::Response;
use http::HeaderValue;

use crate::outbox::Outcome;

/// Puts the header `Outbox-Pending: <n>` on an answer whose change is committed here and not yet at central.
pub(super) fn marked(mut response: Response, outcomes: &[Outcome]) -> Response {
    let open = outcomes.iter().filter(|o| !o.is_done()).count();
    if open > 0 {
        response.headers_mut().insert("outbox-pending", HeaderValue::from(open));
    }
    response
}
