use crate::can_run;
use crate::world::{Life, World};
use satellite_tests::image::Image;
use serde_json::json;

#[test]
fn what_is_removed_goes_after_all_that_is_new_is_here_and_stays_while_a_group_names_it() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let images: Vec<_> = (0..4).map(|n| world.image("library/app", &format!("v{n}"), n)).collect();
    let of = |n: usize| ("library/app", ["v0", "v1", "v2", "v3"][n], images[n].digest.as_str());
    let groups = |a: &[usize], b: &[usize]| {
        let list = |of_group: &[usize]| -> Vec<_> { of_group.iter().map(|n| of(*n)).collect() };
        let publish = |name: &str, list: &[(&str, &str, &str)]| {
            let tagged: Vec<(&str, Vec<&str>, &str)> =
                list.iter().map(|(r, t, d)| (*r, vec![*t], *d)).collect();
            let borrowed: Vec<_> = tagged.iter().map(|(r, t, d)| (*r, t.as_slice(), *d)).collect();
            world.group(name, &borrowed)
        };
        publish("a", &list(a));
        publish("b", &list(b));
    };
    let all_held = |life: &Life| {
        for (n, image) in images[..3].iter().enumerate() {
            life.holds("library/app", of(n).1, image);
        }
    };
    groups(&[0, 1], &[1, 2]);
    world.satellite(&["a", "b"]);
    let life = world.start();
    life.turn().unwrap();
    all_held(&life);

    // The new one cannot come yet: nothing of what is here goes.
    world.link.on(|seen, _| {
        if seen.is_blob() {
            satellite_tests::proxy::Fault::status(404)
        } else {
            satellite_tests::proxy::Fault::Pass
        }
    });
    groups(&[3], &[1]);
    life.turn().unwrap_err();
    all_held(&life);
    // A kill forgets nothing of it.
    drop(life);
    let life = world.start();
    life.turn().unwrap_err();
    life.holds("library/app", "v0", &images[0]);
    world.link.behave();
    life.turn().unwrap();
    // What the other group names stays.
    life.holds("library/app", "v1", &images[1]);
    life.holds("library/app", "v3", &images[3]);
    life.lacks("library/app", "v0");
    life.lacks("library/app", "v2");

    groups(&[], &[]);
    life.turn().unwrap();
    for n in 0..4 {
        life.lacks("library/app", of(n).1);
    }
    assert_eq!(life.job.done().wanted, 0);
}

#[test]
fn what_is_flagged_as_deleted_goes_and_what_names_no_tag_is_held_by_its_digest() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let (kept, flagged, bare) = (
        world.image("library/a", "v1", 1),
        world.image("library/b", "v1", 2),
        world.image("library/c", "v1", 3),
    );
    let artifact = |repository: &str, tag: &[&str], digest: &str, deleted: bool| json!({"repository": repository, "tag": tag, "digest": digest, "type": "IMAGE", "deleted": deleted});
    let publish = |gone: bool| {
        world.group_of(
            "g",
            &json!([
                artifact("library/a", &["v1", "stable"], &kept.digest, false),
                artifact("library/b", &["v1"], &flagged.digest, gone),
                artifact("library/c", &[], &bare.digest, false),
            ]),
        );
    };
    publish(false);
    world.satellite(&["g"]);
    let life = world.start();
    life.turn().unwrap();
    life.holds("library/a", "stable", &kept);
    life.holds("library/b", "v1", &flagged);
    life.lacks("library/c", "v1");
    let held = life.wait(life.job.held()).unwrap();
    assert_eq!(held.len(), 4, "two names, one flagged, one by its digest");
    publish(true);
    life.turn().unwrap();
    life.lacks("library/b", "v1");
    life.holds("library/a", "v1", &kept);
    assert_eq!(life.wait(life.job.held()).unwrap().len(), 3);
}

#[test]
fn two_hundred_images_come_whole_and_half_of_them_go() {
    const ALL: usize = 200;
    if !can_run() {
        return;
    }
    let world = World::new();
    // Layers are shared, as images of one team share their base.
    let images: Vec<_> = (0..ALL as u64)
        .map(|n| {
            let image = Image::new().noise(30_000, n % 10).noise(2_000, 1000 + n).build();
            image.push(&world.central.client(), &format!("team{}/app", n % 7), &format!("v{n}"));
            image
        })
        .collect();
    let places: Vec<_> = (0..ALL).map(|n| (format!("team{}/app", n % 7), format!("v{n}"))).collect();
    let group = |name: &str, which: &mut dyn Iterator<Item = usize>| {
        let list: Vec<_> = which
            .map(|n| json!({"repository": places[n].0, "tag": [places[n].1], "digest": images[n].digest}))
            .collect();
        world.group_of(name, &json!(list))
    };
    group("even", &mut (0..ALL).step_by(2));
    group("odd", &mut (1..ALL).step_by(2));
    world.satellite(&["even", "odd"]);
    let life = world.start();
    life.turn().unwrap();
    for (image, (repository, tag)) in images.iter().zip(&places) {
        life.holds(repository, tag, image);
    }
    // Each blob came once: a configuration and two layers an image, of which ten are shared.
    let blobs =
        world.link.seen("/blobs/").iter().filter(|s| s.is_blob() && !s.target.contains("satellite/")).count();
    let distinct: std::collections::BTreeSet<_> =
        images.iter().flat_map(|i| i.blobs.iter().map(|b| &b.digest)).collect();
    assert_eq!(blobs, distinct.len());

    world.satellite(&["even"]);
    life.turn().unwrap();
    for (n, (image, (repository, tag))) in images.iter().zip(&places).enumerate() {
        if n % 2 == 0 { life.holds(repository, tag, image) } else { life.lacks(repository, tag) }
    }
}
