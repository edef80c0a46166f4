//! A configuration on trial: what happens to one that cuts the satellite off. Pure.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

/// Failed heartbeats in a row after which the one before is put back.
const FAILURES: u32 = 3;
/// After so long a single one is enough.
const PATIENCE: Duration = Duration::from_secs(600);
/// Refusals that are remembered.
const KEPT: usize = 16;

/// What is kept beside a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// Digest of the one that was published and runs, or ran before somebody edited the file.
    pub(super) digest: String,
    /// On trial: failed heartbeats since it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trial: Option<u32>,
    /// Was rolled back; whether it or the link was at fault the next heartbeat shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) suspect: Option<String>,
    /// Digests that are not tried again, with the reason.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub(super) refused: VecDeque<(String, String)>,
}

/// What a heartbeat means for the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Nothing,
    /// It is good: write that down.
    Confirmed,
    /// Put the one before back.
    RollBack,
    /// The one that was rolled back was at fault: write that down.
    Condemned,
    /// It was the link: the one that was rolled back may be tried again.
    Acquitted,
}

impl Record {
    /// Another one runs, on trial.
    pub(super) fn begin(&mut self, digest: &str) {
        (self.digest, self.trial, self.suspect) = (digest.into(), Some(0), None);
    }

    /// Ground Control answered, or could not be reached, `since` it runs.
    pub(super) fn heard(&mut self, good: bool, since: Duration) -> Verdict {
        if let Some(suspect) = self.suspect.take() {
            if good {
                self.refuse(&suspect, "Ground Control could not be reached under it");
                return Verdict::Condemned;
            }
            return Verdict::Acquitted;
        }
        let Some(failures) = &mut self.trial else { return Verdict::Nothing };
        if good {
            self.trial = None;
            return Verdict::Confirmed;
        }
        *failures += 1;
        if *failures >= FAILURES || since >= PATIENCE { Verdict::RollBack } else { Verdict::Nothing }
    }

    /// Not tried again.
    pub(super) fn refuse(&mut self, digest: &str, why: &str) {
        self.refused.retain(|(d, _)| d != digest);
        self.refused.push_back((digest.into(), why.chars().take(400).collect()));
        while self.refused.len() > KEPT {
            self.refused.pop_front();
        }
    }

    /// Why it is not tried, if it is not.
    pub(super) fn is_refused(&self, digest: &str) -> Option<&str> {
        self.refused.iter().find(|(d, _)| d == digest).map(|(_, why)| why.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn one_answer_confirms_it_and_three_failures_take_it_back() {
        let mut record = Record::default();
        assert_eq!(record.heard(false, NOW), Verdict::Nothing);
        record.begin("a");
        assert_eq!(
            [record.heard(false, NOW), record.heard(true, NOW)],
            [Verdict::Nothing, Verdict::Confirmed]
        );
        record.begin("b");
        let verdicts = [record.heard(false, NOW), record.heard(false, NOW), record.heard(false, NOW)];
        assert_eq!(verdicts, [Verdict::Nothing, Verdict::Nothing, Verdict::RollBack]);
        record.begin("c");
        assert_eq!(record.heard(false, PATIENCE), Verdict::RollBack);
    }

    #[test]
    fn a_link_that_is_cut_condemns_nothing() {
        let mut record = Record { digest: "a".into(), suspect: Some("b".into()), ..Record::default() };
        let mut other = record.clone();
        assert_eq!(record.heard(false, NOW), Verdict::Acquitted);
        assert_eq!(record.is_refused("b"), None);
        assert_eq!(other.heard(true, NOW), Verdict::Condemned);
        assert!(other.is_refused("b").is_some());
        for n in 0..100 {
            other.refuse(&n.to_string(), "x");
        }
        assert_eq!(other.refused.len(), KEPT);
    }
}
