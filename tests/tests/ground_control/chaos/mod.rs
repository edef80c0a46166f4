//! Everything round the server fails: Harbor, the database, the clock, and the server itself.

mod database;
mod facts;
mod harbor;
mod kills;
mod scene;
mod time;
