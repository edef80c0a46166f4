//! Tables and statements, on SQLite here; the tests of the whole server run on both.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;

/// An empty database in a folder that goes with it.
pub(crate) async fn fresh() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::connect(&Db::sqlite_url(&dir.path().join("a b#?.db")), 4, Duration::ZERO).await.unwrap();
    db.migrate().await.unwrap();
    (dir, db)
}

#[test]
fn migrations_are_done_once_and_a_second_run_changes_nothing() {
    smol::block_on(async {
        let (_dir, db) = fresh().await;
        let report = db.migrate().await.unwrap();
        assert_eq!(report.from, report.to);
        assert_eq!(db.version().await.unwrap(), (report.to, report.to));
    });
}

#[test]
fn of_fifty_who_race_for_a_token_one_gets_it() {
    smol::block_on(async {
        let (_dir, db) = fresh().await;
        let mut tx = db.begin().await.unwrap();
        let id = satellites::insert(&mut tx, "s1", &satellites::Labels::new()).await.unwrap();
        tokens::insert(&mut tx, id, "hash", now() + 1_000_000_000).await.unwrap();
        let token = tokens::by_hash(&mut tx, "hash").await.unwrap().unwrap();
        tx.commit().await.unwrap();
        let ex = smol::Executor::new();
        let racers: Vec<_> = (0..50)
            .map(|n| {
                let db = db.clone();
                ex.spawn(async move {
                    let mut tx = db.begin().await.unwrap();
                    let got =
                        tokens::claim(&mut tx, token.id, &format!("c{n}"), None, now() - 60_000_000).await;
                    tx.commit().await.unwrap();
                    got.unwrap()
                })
            })
            .collect();
        let mut winners = 0;
        ex.run(async {
            for racer in racers {
                winners += usize::from(racer.await);
            }
        })
        .await;
        assert_eq!(winners, 1);
    });
}

#[test]
fn five_failures_lock_and_a_lock_that_ran_out_counts_anew() {
    smol::block_on(async {
        let (_dir, db) = fresh().await;
        let mut c = db.read().await.unwrap();
        for n in 1..=5 {
            assert_eq!(
                attempts::locked_until(&mut c, "ops", 60_000_000).await.unwrap(),
                None,
                "before failure {n}"
            );
            attempts::failed(&mut c, "ops", 5, 60_000_000).await.unwrap();
        }
        assert!(attempts::locked_until(&mut c, "ops", 60_000_000).await.unwrap().is_some());
        Sql::new("UPDATE login_attempts SET locked_until = $1").bind(now() - 1).run(&mut c).await.unwrap();
        attempts::failed(&mut c, "ops", 5, 60_000_000).await.unwrap();
        assert_eq!(attempts::locked_until(&mut c, "ops", 60_000_000).await.unwrap(), None);
    });
}

#[test]
fn an_outbox_row_is_one_workers_at_a_time_and_done_up_to_what_it_read() {
    smol::block_on(async {
        let (_dir, db) = fresh().await;
        let mut c = db.read().await.unwrap();
        outbox::put(&mut c, "group", "g1", None).await.unwrap();
        let entry = outbox::claim_one(&mut c, "group", "g1", "a", 60_000_000).await.unwrap().unwrap();
        assert!(outbox::claim_one(&mut c, "group", "g1", "b", 60_000_000).await.unwrap().is_none());
        // It changes while it is being done: it stays due.
        outbox::put(&mut c, "group", "g1", None).await.unwrap();
        outbox::done(&mut c, &entry, "a").await.unwrap();
        assert_eq!(outbox::backlog(&mut c).await.unwrap().0, (1, 0));
        let entry = outbox::claim_one(&mut c, "group", "g1", "b", 60_000_000).await.unwrap().unwrap();
        // Whoever lost its lease decides nothing.
        outbox::done(&mut c, &entry, "a").await.unwrap();
        assert_eq!(outbox::backlog(&mut c).await.unwrap().0, (1, 0));
        outbox::failed(&mut c, &entry, "b", "unreachable", "no answer", 0).await.unwrap();
        assert_eq!(outbox::backlog(&mut c).await.unwrap().0, (1, 1));
        let again = outbox::claim(&mut c, Dialect::Sqlite, "c", 60_000_000, 10).await.unwrap();
        assert_eq!(again.len(), 1);
        outbox::done(&mut c, &again[0], "c").await.unwrap();
        assert_eq!(outbox::next_due(&mut c).await.unwrap(), None);
    });
}

#[test]
fn a_batch_of_heartbeats_is_a_row_a_satellite_and_the_last_wins() {
    smol::block_on(async {
        let (_dir, db) = fresh().await;
        let mut tx = db.begin().await.unwrap();
        let mut ids = Vec::new();
        for n in 0..300 {
            ids.push(
                satellites::insert(&mut tx, &format!("s{n}"), &satellites::Labels::new()).await.unwrap(),
            );
        }
        let beat = |id: i64, seen: i64| heartbeats::Beat {
            satellite_id: id,
            last_seen: seen,
            interval: Some("@every 00h00m30s".into()),
            interval_us: Some(30_000_000),
            activity: "a'b\0c".into(),
            state_digest: String::new(),
            config_digest: String::new(),
            cpu_centi: 1250,
            memory_bytes: 1,
            storage_bytes: 2,
            sync_ms: 3,
            image_count: 4,
            reported_at: -62_135_596_800_000_000,
            error: (seen == 20).then(|| ("disk.blocked".into(), "full".into())),
        };
        let mut beats: Vec<_> = ids.iter().map(|id| beat(*id, 10)).collect();
        beats.extend([beat(ids[0], 20), beat(ids[0], 15)]);
        heartbeats::write(&mut tx, &mut beats).await.unwrap();
        tx.commit().await.unwrap();
        let mut c = db.read().await.unwrap();
        let all = satellites::page(&mut c, &satellites::Filter::default(), 0, 1000).await.unwrap();
        assert_eq!(all.iter().filter(|s| s.last_seen == Some(10)).count(), 299);
        assert_eq!(all[0].last_seen, Some(20));
        assert_eq!(all[0].error_cause.as_deref(), Some("disk.blocked"));
        for (cause, count) in [("disk.blocked", 1), ("disk", 1), ("dis", 0), ("state", 0)] {
            let filter = satellites::Filter { cause: Some(cause.into()), ..satellites::Filter::default() };
            assert_eq!(satellites::page(&mut c, &filter, 0, 10).await.unwrap().len(), count, "{cause}");
        }
        assert_eq!(all[0].activity.as_deref(), Some("a'b\u{fffd}c"));
    });
}

#[test]
fn images_are_replaced_by_what_is_new_and_gone() {
    smol::block_on(async {
        let (_dir, db) = fresh().await;
        let mut tx = db.begin().await.unwrap();
        let id = satellites::insert(&mut tx, "s1", &satellites::Labels::new()).await.unwrap();
        let many: std::collections::BTreeMap<String, i64> =
            (0..1200).map(|n| (format!("127.0.0.1:8585/library/app{n}:v1"), n)).collect();
        images::replace(&mut tx, id, &many).await.unwrap();
        assert_eq!(images::ids_of_satellite(&mut tx, id).await.unwrap().len(), 1200);
        let few = many.into_iter().skip(1199).chain([("x/y:z".to_string(), 5)]).collect();
        images::replace(&mut tx, id, &few).await.unwrap();
        let held = images::of_satellite(&mut tx, id, "", 10).await.unwrap();
        assert_eq!(held.len(), 2);
        let filter = |reference: &str, held| satellites::Filter {
            image: Some((reference.into(), held)),
            ..satellites::Filter::default()
        };
        assert_eq!(satellites::count(&mut tx, &filter("x/y:z", true)).await.unwrap(), 1);
        assert_eq!(satellites::count(&mut tx, &filter("x/y", false)).await.unwrap(), 0);
        assert_eq!(satellites::count(&mut tx, &filter("library/app0:v1", false)).await.unwrap(), 1);
    });
}

#[test]
fn labels_choose_members_and_let_them_go_but_never_those_put_in_by_hand() {
    smol::block_on(async {
        let (_dir, db) = fresh().await;
        let mut tx = db.begin().await.unwrap();
        let labels = |site: &str| [("site".to_string(), site.to_string())].into_iter().collect();
        let a = satellites::insert(&mut tx, "a", &labels("x")).await.unwrap();
        let b = satellites::insert(&mut tx, "b", &labels("y")).await.unwrap();
        let none = serde_json::json!([]);
        let (group, _) = groups::put(&mut tx, "g", "http://r", &[], &none, &[]).await.unwrap();
        groups::add_member(&mut tx, group.id, b, false).await.unwrap();
        let chosen: crate::fleet::selector::Selector = "site in (x,y)".parse().unwrap();
        groups::set_selector(&mut tx, group.id, Some("site in (x,y)")).await.unwrap();
        assert_eq!(satellites::reselect_group(&mut tx, group.id, Some(&chosen)).await.unwrap(), ["a"]);
        satellites::set_labels(&mut tx, a, &labels("z")).await.unwrap();
        assert!(satellites::reselect_satellite(&mut tx, a, &labels("z")).await.unwrap());
        let members = satellites::of_group(&mut tx, group.id, 0, 10).await.unwrap();
        assert_eq!(members.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["b"]);
        satellites::set_labels(&mut tx, a, &labels("x")).await.unwrap();
        satellites::reselect_group(&mut tx, group.id, Some(&chosen)).await.unwrap();
        assert_eq!(satellites::reselect_group(&mut tx, group.id, None).await.unwrap(), ["a"]);
        assert_eq!(groups::of_satellite(&mut tx, b).await.unwrap(), ["g"]);
    });
}

#[test]
fn a_secret_nobody_used_never_pushes_out_one_that_somebody_has() {
    smol::block_on(async {
        let (_dir, db) = fresh().await;
        let mut c = db.read().await.unwrap();
        let id = satellites::insert(&mut c, "s", &satellites::Labels::new()).await.unwrap();
        robots::put(&mut c, id, "1", "robot$s", None, "[]").await.unwrap();
        robots::set_secret(&mut c, id, "first", None, None).await.unwrap();
        robots::mark_used(&mut c, id, "first").await.unwrap();
        // Two answers in a row are lost.
        robots::set_secret(&mut c, id, "second", None, Some(now() + 1_000_000_000)).await.unwrap();
        robots::set_secret(&mut c, id, "third", None, Some(now() + 1_000_000_000)).await.unwrap();
        let caller = robots::callers(&mut c, "robot$s").await.unwrap().remove(0);
        assert_eq!(caller.secret_digest.as_deref(), Some("third"));
        assert_eq!(caller.previous_digest.as_deref(), Some("first"));
        robots::mark_used(&mut c, id, "third").await.unwrap();
        assert_eq!(robots::callers(&mut c, "robot$s").await.unwrap()[0].previous_digest, None);
    });
}

#[test]
fn old_rows_go_and_the_newest_status_stays() {
    smol::block_on(async {
        let (_dir, db) = fresh().await;
        let mut c = db.read().await.unwrap();
        let user = users::insert(&mut c, "u", "h", "admin").await.unwrap();
        users::insert_session(&mut c, user.id, "old", now() - 1).await.unwrap();
        users::insert_session(&mut c, user.id, "new", now() + 1_000_000_000).await.unwrap();
        outbox::put(&mut c, "group", "g", None).await.unwrap();
        let ages = retention::Ages { history: 0, audit: 0, rest: 0 };
        assert_eq!(retention::sweep(&mut c, ages).await.unwrap(), 1);
        assert!(users::by_session(&mut c, "new").await.unwrap().is_some());
        assert_eq!(outbox::backlog(&mut c).await.unwrap().0, (1, 0));
    });
}
