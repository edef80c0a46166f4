//! How a satellite is.

/// Seen within so many of its own intervals, it is online.
pub const MISSED: i64 = 3;

/// What a satellite may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything a satellite does.
    Active,
    /// Nothing until it is resumed: its heartbeats are refused, and its robot may pull its state only.
    Suspended,
    /// Nothing until a new token is issued: its robot is deleted.
    Revoked,
}

impl Standing {
    /// As it is stored. What is not known there is taken for the safest.
    pub fn from_text(text: &str) -> Self {
        match text {
            "active" => Self::Active,
            "suspended" => Self::Suspended,
            _ => Self::Revoked,
        }
    }

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        }
    }
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Never seen.
    Pending,
    /// Seen within three of its intervals.
    Online,
    /// Seen longer ago than that.
    Stale,
    /// Seen longer ago than the threshold for that, and than six of its intervals.
    Offline,
    /// Somebody suspended it.
    Suspended,
    /// Somebody revoked it.
    Revoked,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Online, Self::Stale, Self::Offline, Self::Suspended, Self::Revoked];

    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Online => "online",
            Self::Stale => "stale",
            Self::Offline => "offline",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        }
    }

    /// From that.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// Where the states end, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// For one that did not tell its interval: online for so long.
    pub without_interval: i64,
    /// Longer ago than this is offline.
    pub offline: i64,
}

impl Default for Thresholds {
    /// 15 minutes, as the reference has it, and an hour.
    fn default() -> Self {
        Self { without_interval: 900_000_000, offline: 3_600_000_000 }
    }
}

/// How a satellite is at `now`; all in microseconds.
pub fn state(
    standing: Standing,
    last_seen: Option<i64>,
    interval: Option<i64>,
    now: i64,
    thresholds: &Thresholds,
) -> State {
    match standing {
        Standing::Suspended => return State::Suspended,
        Standing::Revoked => return State::Revoked,
        Standing::Active => {}
    }
    let Some(seen) = last_seen else { return State::Pending };
    let fresh = interval.map_or(thresholds.without_interval, |i| i.saturating_mul(MISSED));
    let age = now.saturating_sub(seen);
    if age <= fresh {
        State::Online
    } else if age <= thresholds.offline || age <= fresh.saturating_mul(2) {
        State::Stale
    } else {
        State::Offline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_satellite_goes_stale_by_its_own_interval_and_offline_by_the_threshold() {
        let t = Thresholds::default();
        let at = |age: i64, every: Option<i64>| {
            state(Standing::Active, Some(0), every.map(|e| e * 1_000_000), age * 1_000_000, &t)
        };
        assert_eq!(at(90, Some(30)), State::Online);
        assert_eq!(at(91, Some(30)), State::Stale);
        assert_eq!(at(3600, Some(30)), State::Stale);
        assert_eq!(at(3601, Some(30)), State::Offline);
        // One that reports once an hour is not offline after its first silence.
        assert_eq!(at(3 * 3600 + 1, Some(3600)), State::Stale);
        assert_eq!(at(6 * 3600 + 1, Some(3600)), State::Offline);
        assert_eq!(at(900, None), State::Online);
        assert_eq!(at(901, None), State::Stale);
        // A clock that went back makes nobody stale.
        assert_eq!(at(-50, Some(30)), State::Online);
        assert_eq!(state(Standing::Active, None, None, 0, &t), State::Pending);
        assert_eq!(state(Standing::Suspended, Some(0), None, 0, &t), State::Suspended);
    }

    #[test]
    fn an_unknown_standing_is_no_standing() {
        assert_eq!(Standing::from_text("banned"), Standing::Revoked);
        for s in [Standing::Active, Standing::Suspended, Standing::Revoked] {
            assert_eq!(Standing::from_text(s.as_str()), s);
        }
    }
}
