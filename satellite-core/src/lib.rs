//! The library under the satellite.

#[cfg(feature = "net")]
pub mod net;
pub mod oci;
#[cfg(feature = "replicate")]
pub mod remote;
