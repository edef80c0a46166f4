//! Lists over many rows.

use std::time::Instant;

use satellite_tests::{
    ground_control::{Api, GroundControl},
    postgres::Database,
};

use super::{
    Size,
    results::{Budget, Results},
};

/// How often each is asked; the slowest counts but for the first, which finds nothing in memory.
const TIMES: usize = 6;

/// Fills the database with `rows` satellites: each of two groups, a label, a heartbeat and ten of a thousand images.
fn fill(database: &Database, rows: usize) {
    let now = "(extract(epoch FROM now()) * 1000000)::bigint";
    database.query(&format!(
        "INSERT INTO groups (group_name, registry_url, projects, artifacts, created_at, updated_at) \
           SELECT 'rows-' || n, '', '[\"library\"]', '[]', {now}, {now} FROM generate_series(0, 99) n;
         INSERT INTO group_images (group_id, repository, tag, digest) \
           SELECT id, 'library/row' || right(group_name, -5), 'v1', '' FROM groups WHERE group_name LIKE 'rows-%';
         INSERT INTO satellites (name, standing, labels, created_at, updated_at) \
           SELECT 'row-' || n, 'active', '{{\"site\":\"s' || n % 500 || '\"}}', {now}, {now} FROM generate_series(1, {rows}) n;
         INSERT INTO satellite_labels (satellite_id, name, value) \
           SELECT id, 'site', 's' || right(name, -4)::int % 500 FROM satellites WHERE name LIKE 'row-%';
         INSERT INTO satellite_groups (satellite_id, group_id, by_selector) \
           SELECT s.id, g.id, 0 FROM satellites s JOIN groups g \
           ON g.group_name IN ('rows-' || right(s.name, -4)::int % 100, 'rows-' || (right(s.name, -4)::int + 50) % 100) \
           WHERE s.name LIKE 'row-%';
         INSERT INTO heartbeats (satellite_id, last_seen, heartbeat_interval, interval_us, activity, state_digest, \
             config_digest, image_count, reported_at) \
           SELECT id, {now} - (right(name, -4)::bigint % 200) * 1000000, '@every 00h00m30s', 30000000, '', '', '', 10, {now} \
           FROM satellites WHERE name LIKE 'row-%';
         INSERT INTO images (reference, repository, tag, digest, size_bytes, created_at) \
           SELECT '127.0.0.1:8585/library/row' || n || ':v1@sha256:' || lpad(n::text, 64, '0'), 'library/row' || n, 'v1', \
             'sha256:' || lpad(n::text, 64, '0'), n, {now} FROM generate_series(0, 999) n;
         INSERT INTO satellite_images (satellite_id, image_id) \
           SELECT s.id, i.id FROM satellites s CROSS JOIN generate_series(0, 9) k JOIN images i \
           ON i.repository = 'library/row' || (right(s.name, -4)::int * 7 + k * 101) % 1000 WHERE s.name LIKE 'row-%';"
    ));
    // As the server's own housekeeping does within minutes.
    database.query("VACUUM ANALYZE");
}

/// Fills the database and asks for pages.
pub(crate) fn measure(server: &GroundControl, database: &Database, size: &Size, results: &mut Results) {
    fill(database, size.rows);
    let admin = server.admin();
    let middle = database
        .query("SELECT id FROM satellites ORDER BY id OFFSET (SELECT count(*) / 2 FROM satellites) LIMIT 1");
    let image = "library%2Frow7%3Av1";
    for (what, path) in [
        ("first page of satellites", "/api/satellites?limit=100".to_owned()),
        ("a page from the middle", format!("/api/satellites?limit=100&after={middle}")),
        ("page of one site by label", "/api/satellites?limit=100&selector=site%3Ds7".into()),
        ("page of those whose name holds 199", "/api/satellites?limit=100&q=199".into()),
        ("page of the stale ones", "/api/satellites/stale?limit=100".into()),
        ("page of a group's members", "/api/groups/rows-7/satellites?limit=100".into()),
        ("who holds an image", format!("/api/images/holding?reference={image}")),
        ("who lacks an image", format!("/api/images/lacking?reference={image}")),
        (
            "who should hold an image and lacks it",
            format!("/api/images/lacking?reference={image}&wanted=true"),
        ),
        ("page of those that hold an image", format!("/api/satellites?limit=100&holding={image}")),
        ("page of those that lack an image", format!("/api/satellites?limit=100&lacking={image}")),
        (
            "page of a group's members that lack an image",
            format!("/api/satellites?limit=100&group=rows-7&lacking={image}"),
        ),
        (
            "page of the online ones with all about them",
            "/api/satellites?limit=100&state=online&view=full".into(),
        ),
    ] {
        let slowest = (0..TIMES).map(|_| ask(&admin, &path)).skip(1).fold(0.0, f64::max);
        results.held(format!("{} rows: {what}", size.rows), slowest, "ms", Budget::Most(200.0));
    }
}

/// Milliseconds until a page is there, which must not be empty.
fn ask(admin: &Api, path: &str) -> f64 {
    let begun = Instant::now();
    let page = admin.read(path);
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    let rows = page.as_array().or(page["satellites"].as_array());
    assert!(rows.is_some_and(|rows| !rows.is_empty()), "{path}: {page}");
    took
}
