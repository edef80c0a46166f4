//! The only place that knows hyper, surf's backend and rustls: the HTTP server and the HTTP client over smol.
//!
//! Everything above speaks the types of [`message`]; [`Executor`] runs what must go on beside its caller
//! (one task per connection).

use std::sync::Arc;

#[cfg(feature = "replicate")]
pub mod client;
pub mod message;
#[cfg(feature = "serve")]
pub mod server;
#[cfg(feature = "serve")]
mod woken;

/// Where the tasks of connections run. Its owner drives it, e.g. `smol::block_on(ex.run(main))`;
/// the library starts no threads for it.
pub type Executor = Arc<smol::Executor<'static>>;
