//! The library under the satellite.

#[cfg(feature = "net")]
pub mod net;
pub mod oci;
#[cfg(feature = "serve")]
pub mod registry;
pub mod store;
#[cfg(feature = "replicate")]
pub mod transfer;
