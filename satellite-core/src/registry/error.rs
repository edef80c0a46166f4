//! Errors in the JSON of the specification ("Error Codes").

use http::{HeaderName, StatusCode, header};
use serde_json::{Value, json};

use super::{Response, set, with_bytes};
use crate::store;

/// The codes that answers carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    NotFound,
    Unknown,
}

impl Code {
    fn parts(self) -> (&'static str, StatusCode) {
        match self {
            Self::BlobUnknown => ("BLOB_UNKNOWN", StatusCode::NOT_FOUND),
            Self::BlobUploadInvalid => ("BLOB_UPLOAD_INVALID", StatusCode::BAD_REQUEST),
            Self::BlobUploadUnknown => ("BLOB_UPLOAD_UNKNOWN", StatusCode::NOT_FOUND),
            Self::DigestInvalid => ("DIGEST_INVALID", StatusCode::BAD_REQUEST),
            Self::ManifestBlobUnknown => ("MANIFEST_BLOB_UNKNOWN", StatusCode::BAD_REQUEST),
            Self::ManifestInvalid => ("MANIFEST_INVALID", StatusCode::BAD_REQUEST),
            Self::ManifestUnknown => ("MANIFEST_UNKNOWN", StatusCode::NOT_FOUND),
            Self::NameInvalid => ("NAME_INVALID", StatusCode::BAD_REQUEST),
            Self::NameUnknown => ("NAME_UNKNOWN", StatusCode::NOT_FOUND),
            Self::SizeInvalid => ("SIZE_INVALID", StatusCode::BAD_REQUEST),
            Self::Unauthorized => ("UNAUTHORIZED", StatusCode::UNAUTHORIZED),
            Self::Denied => ("DENIED", StatusCode::FORBIDDEN),
            Self::Unsupported => ("UNSUPPORTED", StatusCode::METHOD_NOT_ALLOWED),
            Self::NotFound => ("NOT_FOUND", StatusCode::NOT_FOUND),
            Self::Unknown => ("UNKNOWN", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// An error on its way to the client.
#[derive(Debug)]
pub(super) struct Failure {
    code: Code,
    status: StatusCode,
    message: String,
    detail: Option<Value>,
    headers: Vec<(HeaderName, String)>,
}

impl Failure {
    pub(super) fn new(code: Code, message: &str) -> Self {
        // Messages may quote what a client sent.
        let message = message.chars().take(500).collect();
        Self { code, status: code.parts().1, message, detail: None, headers: Vec::new() }
    }

    pub(super) fn not_found() -> Self {
        Self::new(Code::NotFound, "there is nothing at this path")
    }

    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(super) fn detail(mut self, detail: Value) -> Self {
        self.detail = Some(detail);
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn into_response(self) -> Response {
        let mut error = json!({"code": self.code.parts().0, "message": self.message});
        if let Some(detail) = self.detail {
            error["detail"] = detail;
        }
        let mut response = with_bytes("application/json", json!({"errors": [error]}).to_string().into());
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            set(&mut response, name, value);
        }
        response
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        use store::Error as E;
        let text = error.to_string();
        if error.is_no_space() {
            log::error!("{text}");
            return Self::new(Code::Denied, &text).status(StatusCode::INSUFFICIENT_STORAGE);
        }
        match &error {
            E::DigestMismatch { expected, actual } => Self::new(Code::DigestInvalid, &text)
                .detail(json!({"expected": expected.as_str(), "actual": actual.as_str()})),
            E::SizeMismatch { digest, .. } => {
                Self::new(Code::SizeInvalid, &text).detail(json!({"digest": digest.as_str()}))
            }
            E::Incomplete { missing, .. } => {
                Self::new(Code::ManifestBlobUnknown, &text).detail(json!({"digest": missing.as_str()}))
            }
            E::BlobInUse { digest, manifest, .. } => Self::new(Code::Denied, &text)
                .status(StatusCode::METHOD_NOT_ALLOWED)
                .header(header::ALLOW, "GET, HEAD")
                .detail(json!({"digest": digest.as_str(), "manifest": manifest.as_str()})),
            E::BlobUnknown(_) => Self::new(Code::BlobUnknown, &text),
            E::ManifestUnknown(..) => Self::new(Code::ManifestUnknown, &text),
            E::UploadUnknown(_) => Self::new(Code::BlobUploadUnknown, &text),
            E::UploadBusy(_) => Self::new(Code::BlobUploadInvalid, &text).status(StatusCode::CONFLICT),
            E::UploadOffset { .. } => {
                Self::new(Code::BlobUploadInvalid, &text).status(StatusCode::RANGE_NOT_SATISFIABLE)
            }
            E::Manifest(_) => Self::new(Code::ManifestInvalid, &text),
            _ => {
                log::error!("{text}");
                // Paths and system errors are for the log, not for clients.
                Self::new(Code::Unknown, "the store failed; see the registry's log")
                    .status(StatusCode::SERVICE_UNAVAILABLE)
                    .header(header::RETRY_AFTER, "10")
            }
        }
    }
}
