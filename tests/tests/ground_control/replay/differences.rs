//! Where ours answers otherwise on purpose.

use satellite_tests::http::Response;

/// A call that ours answers otherwise.
pub(crate) struct Difference {
    /// The recorded call.
    pub(crate) case: &'static str,
    /// What ours answers.
    pub(crate) status: u16,
    /// What is in its body.
    pub(crate) says: &'static [&'static str],
    /// Why.
    pub(crate) reason: &'static str,
}

impl Difference {
    /// The one for that call.
    pub(crate) fn of(case: &str) -> Option<&'static Self> {
        DIFFERENCES.iter().find(|difference| difference.case == case)
    }

    /// True if the answer differs as it should.
    pub(crate) fn allows(&self, answer: &Response) -> bool {
        let text = answer.text();
        answer.status == self.status
            && self.says.iter().all(|words| text.contains(words))
            && !self.reason.is_empty()
    }
}

const fn differs(
    case: &'static str,
    status: u16,
    says: &'static [&'static str],
    reason: &'static str,
) -> Difference {
    Difference { case, status, says, reason }
}

const USER: &str =
    "a name of blanks, slashes or 300 letters is a user whom no path names; the reference takes it or fails";
const WITHOUT: &str = "what was refused before is not listed";
const NAME: &str = "the name becomes part of a repository's path; the reference fails later, or publishes where no \
                    satellite looks";
const EMPTY: &str = "a group may be empty; the reference fails on a column that must not be null";
const REPOSITORY: &str = "a repository has a project and a name; a satellite of the reference drops the whole group for one \
                          that has none";
const CONFIG: &str = "it would reach satellites, which cannot run with it";
const PATCH: &str = "null removes, as RFC 7396 says; in the reference it changes nothing, and what it took before is still there";
const ABSENT: &str = "what is not there is 404, or 400 where a body names it; the reference fails with 500";
const IMAGES: &str = "the reference's query fails on every PostgreSQL";
const MEMBER: &str = "its handler looks for parts that its path has not; ours does what is documented";
const ORDER: &str = "rows come by number; the reference's come as its tables have them";
const NAMES: &str =
    "failures count by name: one of this name came before, in the recording from another address";
const ADDRESS: &str = "limits are per account and per satellite: a site behind one address works";

/// All of them, in the order of the recording.
pub(crate) const DIFFERENCES: &[Difference] = &[
    differs("users.create.odd-username", 400, &["sername"], USER),
    differs("users.create.long-username", 400, &["sername"], USER),
    differs("users.list2", 200, &["\"u2\"", "\"ops\""], WITHOUT),
    differs("role.ops-lists-users", 200, &["\"u2\"", "\"ops\""], WITHOUT),
    differs("configs.create.bad-interval", 400, &["interval"], CONFIG),
    differs("configs.create.bad-url", 400, &["ground_control_url"], CONFIG),
    differs("configs.list", 200, &["\"c1\"", "\"c8\""], WITHOUT),
    differs("configs.patch.null-removes", 200, &["\"c1\""], PATCH),
    differs("configs.patch.bad-level", 400, &["log_level"], CONFIG),
    differs("configs.patch.bad-interval", 400, &["heartbeat_interval"], CONFIG),
    differs("configs.patch.empty", 200, &["\"c1\""], PATCH),
    differs("configs.patch.unknown", 200, &["\"c1\""], PATCH),
    differs("configs.get.after-patch", 200, &["\"c1\""], PATCH),
    differs("configs.delete.absent", 404, &["onfig"], ABSENT),
    differs("groups.sync.no-name", 400, &["group"], NAME),
    differs("groups.sync.bad-name", 400, &["group"], NAME),
    differs("groups.sync.slash", 400, &["group"], NAME),
    differs("groups.sync.long", 400, &["group"], NAME),
    differs("groups.sync.no-artifacts", 200, &["\"g4\"", "\"Projects\":[]"], EMPTY),
    differs("groups.sync.empty-artifacts", 200, &["\"g5\"", "\"Projects\":[]"], EMPTY),
    differs("groups.sync.artifact-no-repo", 400, &["repository"], REPOSITORY),
    differs("groups.sync.artifact-no-project", 400, &["repository"], REPOSITORY),
    differs("groups.sync.deleted", 200, &["\"g11\"", "\"Projects\":[]"], EMPTY),
    differs("groups.list", 200, &["\"g1\"", "\"g5\"", "\"g14\""], WITHOUT),
    differs("satellites.register.absent-config", 400, &["onfig"], ABSENT),
    differs("satellites.get.absent", 404, &["atellite"], ABSENT),
    differs("satellites.images.none", 200, &[], IMAGES),
    differs(
        "sync.cpu-huge",
        400,
        &["cpu_percent"],
        "a number that no column holds; the reference fails with 500",
    ),
    differs("satellites.images", 200, &["\"Reference\""], IMAGES),
    differs("groups.satellites.g14", 200, &["sat1", "sat3"], ORDER),
    differs("groups.remove-satellite.ok", 200, &["{}"], MEMBER),
    differs("groups.remove-satellite.again", 400, &["not in the group"], MEMBER),
    differs("groups.remove-satellite.absent-group", 400, &["Group Not Found"], MEMBER),
    differs("groups.delete.unused", 200, &["{}"], EMPTY),
    differs("groups.list.after", 200, &["\"g2\""], WITHOUT),
    differs("satellites.list.after", 200, &["sat1", "sat2", "satops"], ORDER),
    differs("ratelimit.10", 429, &["Too Many Requests"], NAMES),
    differs("ratelimit.sync-same-address", 200, &[], ADDRESS),
];
