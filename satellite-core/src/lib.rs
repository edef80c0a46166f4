//! The library under the satellite: a content-addressed OCI store, resumable replication into it, and a registry over it.
//!
//! # The life of a blob
//!
//! [`replicate`] reads an image's manifests through [`remote`], compares what they name with the [`store`], and asks
//! [`transfer`] for each blob that is missing. The engine opens a byte range at a source, and gives what comes to the
//! store's one [`Writer`](store::Writer): pieces are written and hashed at the same time, data and hash state are synced
//! every few megabytes, and a cut link, a restart or another source goes on from there. When the hash is the digest asked
//! for, the file is synced, renamed to its digest, its folder is synced, and only then the index may name it. When all
//! blobs of an image are there, its manifests are put, and its tag moves last. [`registry`] gives it to clients: a
//! request becomes an answer that names the file, and [`net`] lets the kernel send it.
//!
//! # Threads
//!
//! None of its own but those of sled and of smol's pool for blocking work, of which the store uses a bounded number.
//! Everything else runs on the [`Executor`](net::Executor) that the caller drives.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | none | [`oci`] and [`store`]: no network |
//! | `serve` | [`registry`] and the HTTP server |
//! | `replicate` | [`remote`], [`transfer`], [`replicate`] and the HTTP client |
//! | both | [`proxy`]: pull-through |
//! | `fleet` | [`fleet`]: what satellites and Ground Control say to each other |
//!
//! Dependencies between modules point one way: `replicate` → `transfer`, `remote` → `store` → `oci`;
//! `registry` → `store`, `oci`; `proxy` joins the two. Only `net` names hyper and rustls, only `store/index.rs` names sled.

#[cfg(feature = "fleet")]
pub mod fleet;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod memory;
#[cfg(feature = "net")]
pub mod net;
pub mod oci;
#[cfg(all(feature = "serve", feature = "replicate"))]
pub mod proxy;
#[cfg(feature = "serve")]
pub mod registry;
#[cfg(feature = "replicate")]
pub mod remote;
#[cfg(feature = "replicate")]
pub mod replicate;
pub mod store;
#[cfg(feature = "replicate")]
pub mod transfer;
