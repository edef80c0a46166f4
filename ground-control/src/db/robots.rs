//! Robot accounts of satellites, as this server knows them.

use super::{Columns, Conn, FromColumns, Result, Sql, now};

/// What is known of a robot account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Robot {
    /// Whose.
    pub satellite_id: i64,
    /// The name it logs in with.
    pub login: String,
    /// Central's id.
    pub robot_id: String,
    /// Microseconds; `None`: never.
    pub expires_at: Option<i64>,
    /// When a secret was handed out last.
    pub issued_at: Option<i64>,
    /// When the secret that is valid was first used here.
    pub used_at: Option<i64>,
    /// Whether the satellite is asked to fetch a new secret.
    pub refresh_wanted: bool,
    /// JSON list of the projects it may pull from.
    pub projects: String,
}

impl FromColumns for Robot {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            satellite_id: c.take()?,
            login: c.take()?,
            robot_id: c.take()?,
            expires_at: c.take()?,
            issued_at: c.take()?,
            used_at: c.take()?,
            refresh_wanted: c.take::<i64>()? != 0,
            projects: c.take()?,
        })
    }
}

/// Who logs in, with all that an answer to a heartbeat needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The satellite.
    pub satellite_id: i64,
    /// Its name.
    pub name: String,
    /// Its standing: `active`, `suspended`, `revoked`.
    pub standing: String,
    /// Keyed digest of its secret, hex.
    pub secret_digest: Option<String>,
    /// Of the one before.
    pub previous_digest: Option<String>,
    /// How long that is believed.
    pub previous_until: Option<i64>,
    /// When the robot expires.
    pub expires_at: Option<i64>,
    /// When the secret was first used.
    pub used_at: Option<i64>,
    /// Whether it should fetch a new secret.
    pub refresh_wanted: bool,
    /// What it said last: activity, state digest, configuration's digest, interval, hash of its images.
    pub last: [Option<String>; 5],
    /// Digest of its state at central.
    pub state_digest: Option<String>,
    /// Digest of its configuration at central.
    pub config_digest: Option<String>,
}

impl FromColumns for Caller {
    fn from_columns(c: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            satellite_id: c.take()?,
            name: c.take()?,
            standing: c.take()?,
            secret_digest: c.take()?,
            previous_digest: c.take()?,
            previous_until: c.take()?,
            expires_at: c.take()?,
            used_at: c.take()?,
            refresh_wanted: c.take::<i64>()? != 0,
            last: [c.take()?, c.take()?, c.take()?, c.take()?, c.take()?],
            state_digest: c.take()?,
            config_digest: c.take()?,
        })
    }
}

#[cfg(test)]
impl Caller {
    /// In good standing, and nothing is known of it.
    pub fn unknown(satellite_id: i64, name: &str) -> Self {
        Self {
            satellite_id,
            name: name.into(),
            standing: "active".into(),
            secret_digest: None,
            previous_digest: None,
            previous_until: None,
            expires_at: None,
            used_at: None,
            refresh_wanted: false,
            last: [const { None }; 5],
            state_digest: None,
            config_digest: None,
        }
    }
}

macro_rules! caller {
    ($condition:literal) => {
        caller!("", $condition)
    };
    ($first:literal, $condition:literal) => {
        concat!(
            "SELECT ",
            $first,
            "s.id, s.name, s.standing, r.secret_digest, r.previous_digest, r.previous_until, r.expires_at, \
             r.used_at, COALESCE(r.refresh_wanted, 0), h.activity, h.state_digest, h.config_digest, \
             h.heartbeat_interval, h.images_hash, ps.digest, pc.digest \
             FROM satellites s LEFT JOIN robots r ON r.satellite_id = s.id \
             LEFT JOIN heartbeats h ON h.satellite_id = s.id \
             LEFT JOIN publications ps ON ps.repository = 'satellite/satellite-state/' || s.name || '/state' \
             LEFT JOIN satellite_configs sc ON sc.satellite_id = s.id LEFT JOIN configs k ON k.id = sc.config_id \
             LEFT JOIN publications pc ON pc.repository = 'satellite/config-state/' || k.config_name || '/state' \
             WHERE ",
            $condition
        )
    };
}

/// Whose robot has this login; two, if more than one have it.
pub async fn callers(c: &mut Conn, login: &str) -> Result<Vec<Caller>> {
    Sql::new(caller!("r.login = $1 LIMIT 2")).bind(login).all(c).await
}

/// Whose robots have these logins, each of which is one satellite's: login and caller.
pub async fn callers_of(c: &mut Conn, logins: &[&str]) -> Result<Vec<(String, Caller)>> {
    // Few different statements, so that all stay prepared: powers of two, filled up with the last.
    let Some(last) = logins.last() else { return Ok(Vec::new()) };
    let size = logins.len().next_power_of_two();
    let filled = logins.iter().chain(std::iter::repeat(last)).take(size);
    let mut sql = Sql::new(caller!("r.login, ", "r.login IN "));
    sql.push_rows(size, filled.map(|login| Sql::value(*login)));
    sql.all(c).await
}

/// The satellite of this name, as a caller that showed a certificate.
pub async fn caller_by_name(c: &mut Conn, name: &str) -> Result<Option<Caller>> {
    Sql::new(caller!("s.name = $1")).bind(name).one(c).await
}

/// A satellite's robot.
pub async fn of_satellite(c: &mut Conn, satellite: i64) -> Result<Option<Robot>> {
    Sql::new(
        "SELECT satellite_id, login, robot_id, expires_at, issued_at, used_at, refresh_wanted, projects \
         FROM robots WHERE satellite_id = $1",
    )
    .bind(satellite)
    .one(c)
    .await
}

/// What central says of a satellite's robot after it was made or brought to other rights.
pub async fn put(
    c: &mut Conn,
    satellite: i64,
    robot_id: &str,
    login: &str,
    expires_at: Option<i64>,
    projects: &str,
) -> Result<()> {
    Sql::new(
        "INSERT INTO robots (satellite_id, login, robot_id, expires_at, refresh_wanted, projects, created_at, \
         updated_at) VALUES ($1, $2, $3, $4, 0, $5, $6, $6) ON CONFLICT (satellite_id) DO UPDATE SET \
         login = $2, robot_id = $3, expires_at = $4, projects = $5, updated_at = $6",
    )
    .bind(satellite)
    .bind(login)
    .bind(robot_id)
    .bind(expires_at)
    .bind(projects)
    .bind(now())
    .run(c)
    .await?;
    Ok(())
}

/// A new secret was handed out. The one before is believed until `previous_until`, or until the new one is used.
pub async fn set_secret(
    c: &mut Conn,
    satellite: i64,
    digest: &str,
    expires_at: Option<i64>,
    previous_until: Option<i64>,
) -> Result<()> {
    // Which one is kept as the one before: the newest that was ever used. One that nobody used is of nobody.
    Sql::new(
        "UPDATE robots SET previous_digest = CASE WHEN $4 IS NULL THEN NULL \
           WHEN used_at IS NOT NULL THEN secret_digest ELSE previous_digest END, previous_until = $4, \
         secret_digest = $2, expires_at = $3, issued_at = $5, used_at = NULL, refresh_wanted = 0, updated_at = $5 \
         WHERE satellite_id = $1",
    )
    .bind(satellite)
    .bind(digest)
    .bind(expires_at)
    .bind(previous_until)
    .bind(now())
    .run(c)
    .await?;
    Ok(())
}

/// The secret with this digest was used for the first time: the one before ends.
pub async fn mark_used(c: &mut Conn, satellite: i64, digest: &str) -> Result<()> {
    Sql::new(
        "UPDATE robots SET used_at = $3, previous_digest = NULL, previous_until = NULL \
         WHERE satellite_id = $1 AND secret_digest = $2 AND used_at IS NULL",
    )
    .bind(satellite)
    .bind(digest)
    .bind(now())
    .run(c)
    .await?;
    Ok(())
}

/// Asks the satellite, with its next heartbeat, to fetch a new secret.
pub async fn want_refresh(c: &mut Conn, satellite: i64) -> Result<bool> {
    Ok(Sql::new("UPDATE robots SET refresh_wanted = 1, updated_at = $2 WHERE satellite_id = $1")
        .bind(satellite)
        .bind(now())
        .run(c)
        .await?
        > 0)
}

/// Forgets a satellite's robot.
pub async fn delete(c: &mut Conn, satellite: i64) -> Result<()> {
    Sql::new("DELETE FROM robots WHERE satellite_id = $1").bind(satellite).run(c).await?;
    Ok(())
}

/// Names of satellites in good standing whose robots expire before `before` and were not looked after since `since`.
pub async fn expiring(c: &mut Conn, before: i64, since: i64, limit: i64) -> Result<Vec<String>> {
    Sql::new(
        "SELECT s.name FROM robots r JOIN satellites s ON s.id = r.satellite_id \
         WHERE r.expires_at < $1 AND r.updated_at < $2 AND s.standing <> 'revoked' \
         ORDER BY r.expires_at LIMIT $3",
    )
    .bind(before)
    .bind(since)
    .bind(limit)
    .all(c)
    .await
}

/// Robot ids of all satellites.
pub async fn ids(c: &mut Conn) -> Result<Vec<String>> {
    Sql::new("SELECT robot_id FROM robots ORDER BY robot_id").all(c).await
}
