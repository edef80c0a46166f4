//! Who calls, and what they may.
//!
//! | file | does |
//! |---|---|
//! | `keyed` | random tokens, their hashes, keyed digests, comparison in constant time |
//! | `policy` | rules for passwords and names of users; pure |
//! | `passwords` | argon2id, one at a time |
//! | `login` | name and password against the database, with limits and lockout |
//! | `user` | the extractors [`Session`] and [`SystemAdmin`] of the API's routes |
//! | `satellite` | the extractor [`Satellite`] of the satellites' routes |
//! | `directory` | whose login it is, looked up for many at once |
//! | `limits` | requests of one satellite |

mod directory;
mod keyed;
mod limits;
mod login;
mod passwords;
mod policy;
mod satellite;
mod user;

pub use directory::{Directory, Reader, Unanswered, directory};
pub use keyed::{Keys, equal, random_hex, random_token, sha256_hex, uuid};
pub use limits::Limits;
pub use login::{Refusal, check};
pub use passwords::{Busy, Passwords};
pub use policy::{check_password, check_username};
pub use satellite::Satellite;
pub use user::{Session, SystemAdmin, basic};

/// The role of the first user, who alone may change other users.
pub const SYSTEM_ADMIN: &str = "system_admin";
/// The role of all others.
pub const ADMIN: &str = "admin";
