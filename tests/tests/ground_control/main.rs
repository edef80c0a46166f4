//! Ground Control as its callers see it: against recordings of the reference, on both databases, with bad input,
//! with replicas, and with everything round it failing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod accounts;
mod bad_input;
mod chaos;
mod devices;
mod end_to_end;
mod plain;
mod replay;
mod replicas;
mod reports;
mod roles;
mod routes;
mod schemathesis;
mod tls;
mod tokens;
mod worlds;
