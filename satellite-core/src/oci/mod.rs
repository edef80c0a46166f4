//! Names and documents of the OCI specifications: digests, references, manifests, platforms. Pure, no I/O.

mod digest;
mod hasher;
mod manifest;
pub mod media_type;
mod platform;
mod reference;

pub use digest::{Algorithm, Digest, DigestError, DigestKey};
pub use hasher::{HashState, Hasher};
pub use manifest::{Descriptor, MAX_MANIFEST_BYTES, Manifest, ManifestError};
pub use platform::{Platform, PlatformError, PlatformSet};
#[cfg(feature = "serve")]
pub(crate) use reference::canonical_host;
pub use reference::{ImageReference, NameError, Reference, Repository, Tag};
