use crate::can_run;
use crate::world::World;

/// Fifty images in five groups.
fn fifty(world: &World) -> (String, Vec<(String, String)>) {
    let names: Vec<String> = (0..5).map(|g| format!("g{g}")).collect();
    let groups = names.iter().enumerate().map(|(g, name)| {
        let list: Vec<_> = (0..10)
            .map(|n| {
                let tag = format!("v{g}-{n}");
                let image = world.sized("library/app", &tag, (g * 10 + n) as u64, 2000);
                serde_json::json!({"repository": "library/app", "tag": [tag], "digest": image.digest})
            })
            .collect();
        (name.clone(), world.group_of(name, &serde_json::json!(list)))
    });
    let groups: Vec<_> = groups.collect();
    let state = world.satellite(&names.iter().map(String::as_str).collect::<Vec<_>>());
    (state, groups)
}

#[test]
fn an_unchanged_state_of_fifty_images_asks_the_registry_nothing_where_ground_control_says_what_it_is() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let (state, groups) = fifty(&world);
    let life = world.start();
    life.turn().unwrap();
    assert_eq!(life.job.done().wanted, 50);
    let named: Vec<_> = groups.iter().map(|(name, digest)| (name.as_str(), digest.as_str())).collect();
    let told = world.told(&state, &named);
    world.link.forget();
    for _ in 0..3 {
        life.told(Some(&told)).unwrap();
    }
    assert_eq!(world.asked(), [] as [String; 0]);

    // One group is another: that one is read, and what it names.
    let image = world.image("library/new", "v1", 99);
    let digest = world.group("g0", &[("library/new", &["v1"], &image.digest)]);
    let mut told = told;
    told.states.insert(world.url("g0"), digest);
    life.told(Some(&told)).unwrap();
    life.holds("library/new", "v1", &image);
    let others = world.asked().into_iter().filter(|a| !a.contains("/g0/") && !a.contains("library/new"));
    assert_eq!(others.collect::<Vec<_>>(), [] as [String; 0]);
}

#[test]
fn with_the_reference_each_state_is_asked_for_once_and_conditionally() {
    if !can_run() {
        return;
    }
    let world = World::new();
    fifty(&world);
    let life = world.start();
    life.turn().unwrap();
    world.link.forget();
    life.turn().unwrap();
    let asked = world.link.seen("");
    // The satellite's own and five groups', and no byte of a body.
    assert_eq!(asked.len(), 6, "{:?}", world.asked());
    for seen in &asked {
        assert!(seen.is_manifest() && seen.target.contains("/state/manifests/"), "{}", seen.target);
        assert!(seen.header("if-none-match").is_some() && seen.sent == 0, "{seen:?}");
    }
}
