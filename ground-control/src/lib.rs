//! Ground Control: the fleet server.
//!
//! A room a folder; dependencies point down this list only.
//!
//! | module | is | may use |
//! |---|---|---|
//! | `cli` | the command line | everything |
//! | [`server`], [`router`] | the parts put together; every route | everything below |
//! | [`api`] | a file a resource: request → transaction → outbox → answer | everything below |
//! | [`auth`], [`http`] | who calls; bodies, errors, lists, request ids | [`app`], `db`, `settings` |
//! | [`outbox`], [`beats`], [`housekeeping`] | changes of central, heartbeats in batches, what goes on behind requests | `central`, `db`, `fleet` |
//! | [`audit`], [`metrics`] | what was done, and how often | `db` |
//! | [`db`] | PostgreSQL or SQLite by one SQL; alone names sqlx | `fleet` |
//! | [`central`] | where state artifacts and robot accounts live: Harbor, any registry, or the one embedded here | – |
//! | [`fleet`], [`settings`] | pure: health, selectors, drift; what the server is told | – |
//!
//! # How a change travels
//!
//! A handler changes rows, puts a row into the outbox for each object at central that is then out of line, and writes its
//! audit event, all in one transaction. After the commit it has its own outbox rows done and waits for them a bounded
//! time; what is left is done by a worker of any replica. So the tables are the truth, and central follows.
//!
//! # How a heartbeat travels
//!
//! Credentials are a row and a keyed digest: no password hash. The report is compared with the row that was read; what
//! is new goes along as a change. A writer gathers reports for some milliseconds and writes them in one transaction, a row a
//! satellite, and each is answered when that is committed.
//!
//! # Threads
//!
//! As many as cores (four at most) drive one executor; password hashes and the embedded store use smol's pool for blocking
//! work; each connection to SQLite has a thread of its own.

pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod beats;
pub mod central;
pub mod cli;
pub mod db;
pub mod fleet;
pub mod housekeeping;
pub mod http;
pub mod metrics;
mod openapi;
pub mod outbox;
pub mod router;
pub mod server;
pub mod settings;
pub mod spiffe;
