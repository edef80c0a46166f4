//! What each command asks of the server, and how its answer is shown.

use serde_json::{Map, Value, json};
use surf::http::Method;

use super::{
    Audit, Configs, Groups, Images, Outbox, Satellites,
    table::{Column, labels, line, list, show, table, text},
};
use crate::cli::{
    Failure, Result,
    client::{Api, Server, part},
};

pub(super) fn login(server: &Server) -> Result<()> {
    let body = json!({"username": server.name(), "password": server.credentials()?});
    let anonymous = server.clone().without_credentials();
    let answer = anonymous.call(async |api| api.ask(Method::Post, "/login", Some(&body)).await)?;
    if server.json {
        println!("{answer}");
    } else {
        println!("{}", text(&answer, "token"));
    }
    Ok(())
}

pub(super) async fn satellites(api: &Api, json: bool, what: Satellites) -> Result<()> {
    let path = |name: &str, rest: &str| format!("/api/satellites/{}{rest}", part(name));
    match what {
        Satellites::List { selector, group, state, q, drifted, cause } => {
            let rows = api
                .list(
                    "/api/satellites",
                    &[
                        ("view", Some("full".into())),
                        ("selector", selector),
                        ("group", group),
                        ("state", state),
                        ("q", q),
                        ("drifted", drifted.then(|| "true".into())),
                        ("cause", cause),
                    ],
                )
                .await?;
            let columns: [Column; 6] = [
                ("NAME", |r| text(r, "Name")),
                ("STATE", |r| text(r, "State")),
                ("ERROR", |r| text(r, "ErrorCause")),
                ("LAST SEEN", |r| {
                    r.get("LastSeen").filter(|t| t["Valid"] == true).map_or("-".into(), |t| text(t, "Time"))
                }),
                ("INTERVAL", |r| r.get("HeartbeatInterval").map_or(String::new(), |i| text(i, "String"))),
                ("LABELS", |r| labels(r.get("Labels"))),
            ];
            table(json, &rows, &columns);
            Ok(())
        }
        Satellites::Show { name } => show(api.ask(Method::Get, &path(&name, "/health"), None).await?),
        Satellites::Register { name, config, groups, labels } => {
            let labels = labels.iter().map(|l| pair(l)).collect::<Result<Map<_, _>>>()?;
            let body = json!({"name": name, "groups": groups, "config_name": config, "labels": labels});
            let answer = api.ask(Method::Post, "/api/satellites", Some(&body)).await?;
            line(json, &answer, "token")
        }
        Satellites::Token { name } => {
            line(json, &api.ask(Method::Post, &path(&name, "/token"), None).await?, "token")
        }
        Satellites::Label { name, labels } => {
            let mut patch = Map::new();
            for label in &labels {
                match label.strip_suffix('-').filter(|l| !l.contains('=')) {
                    Some(gone) => patch.insert(gone.into(), Value::Null),
                    None => {
                        let (label, value) = pair(label)?;
                        patch.insert(label, value)
                    }
                };
            }
            show(api.ask(Method::Patch, &path(&name, "/labels"), Some(&Value::Object(patch))).await?)
        }
        Satellites::Suspend { name } => show(api.ask(Method::Post, &path(&name, "/suspend"), None).await?),
        Satellites::Resume { name } => show(api.ask(Method::Post, &path(&name, "/resume"), None).await?),
        Satellites::Revoke { name } => show(api.ask(Method::Post, &path(&name, "/revoke"), None).await?),
        Satellites::Rotate { name } => show(api.ask(Method::Post, &path(&name, "/rotate"), None).await?),
        Satellites::Delete { name } => show(api.ask(Method::Delete, &path(&name, ""), None).await?),
        Satellites::Images { name } => {
            let rows = api.list(&path(&name, "/images"), &[]).await?;
            table(
                json,
                &rows,
                &[
                    ("REFERENCE", |r| text(r, "Reference")),
                    ("BYTES", |r| r["SizeBytes"]["Int64"].to_string()),
                ],
            );
            Ok(())
        }
        Satellites::History { name } => {
            let rows = api.list(&path(&name, "/history"), &[]).await?;
            let columns: [Column; 4] = [
                ("AT", |r| text(r, "CreatedAt")),
                ("ACTIVITY", |r| text(r, "Activity")),
                ("STATE", |r| text(&r["LatestStateDigest"], "String")),
                ("IMAGES", |r| r["ImageCount"]["Int32"].to_string()),
            ];
            table(json, &rows, &columns);
            Ok(())
        }
        Satellites::Events { name } => {
            let rows = api.list(&path(&name, "/events"), &[]).await?;
            let columns: [Column; 5] = [
                ("AT", |r| text(r, "at")),
                ("EVENT", |r| text(r, "event")),
                ("IMAGE", |r| text(r, "image")),
                ("BYTES", |r| {
                    if r["total"] == 0 { String::new() } else { format!("{}/{}", r["bytes"], r["total"]) }
                }),
                ("CAUSE", |r| text(r, "cause")),
            ];
            table(json, &rows, &columns);
            Ok(())
        }
    }
}

pub(super) async fn groups(api: &Api, json: bool, what: Groups) -> Result<()> {
    let path = |name: &str, rest: &str| format!("/api/groups/{}{rest}", part(name));
    match what {
        Groups::List => {
            let rows = api.list("/api/groups", &[]).await?;
            let columns: [Column; 4] = [
                ("NAME", |r| text(r, "GroupName")),
                ("PROJECTS", |r| list(&r["Projects"])),
                ("SELECTOR", |r| text(r, "Selector")),
                ("UPDATED", |r| text(r, "UpdatedAt")),
            ];
            table(json, &rows, &columns);
            Ok(())
        }
        Groups::Show { name } => show(api.ask(Method::Get, &path(&name, "/state"), None).await?),
        Groups::Apply { file } => {
            show(api.ask(Method::Post, "/api/groups/sync", Some(&document(&file)?)).await?)
        }
        Groups::Members { name } => {
            let rows = api.list(&path(&name, "/satellites"), &[]).await?;
            table(json, &rows, &[("NAME", |r| text(r, "Name")), ("CREATED", |r| text(r, "CreatedAt"))]);
            Ok(())
        }
        Groups::Add { name, satellite } => {
            let body = json!({"satellite": satellite, "group": name});
            show(api.ask(Method::Post, "/api/groups/satellite", Some(&body)).await?)
        }
        Groups::Remove { name, satellite } => {
            let body = json!({"satellite": satellite, "group": name});
            show(api.ask(Method::Delete, "/api/groups/satellite", Some(&body)).await?)
        }
        Groups::Select { name, selector } => {
            let body = json!({"selector": selector});
            show(api.ask(Method::Put, &path(&name, "/selector"), Some(&body)).await?)
        }
        Groups::Delete { name } => show(api.ask(Method::Delete, &path(&name, ""), None).await?),
    }
}

pub(super) async fn configs(api: &Api, json: bool, what: Configs) -> Result<()> {
    let path = |name: &str| format!("/api/configs/{}", part(name));
    match what {
        Configs::List => {
            let rows = api.list("/api/configs", &[]).await?;
            table(json, &rows, &[("NAME", |r| text(r, "ConfigName")), ("UPDATED", |r| text(r, "UpdatedAt"))]);
            Ok(())
        }
        Configs::Show { name } => show(api.ask(Method::Get, &path(&name), None).await?),
        Configs::Create { name, file } => {
            let body = json!({"config_name": name, "config": document(&file)?});
            show(api.ask(Method::Post, "/api/configs", Some(&body)).await?)
        }
        Configs::Patch { name, file } => {
            show(api.ask(Method::Patch, &path(&name), Some(&document(&file)?)).await?)
        }
        Configs::Assign { name, satellite } => {
            let body = json!({"satellite": satellite, "config_name": name});
            show(api.ask(Method::Post, "/api/configs/satellite", Some(&body)).await?)
        }
        Configs::Delete { name } => show(api.ask(Method::Delete, &path(&name), None).await?),
    }
}

pub(super) async fn images(api: &Api, json: bool, what: Images) -> Result<()> {
    let (route, reference, wanted) = match what {
        Images::Lacking { reference, wanted } => ("lacking", reference, wanted),
        Images::Holding { reference } => ("holding", reference, false),
    };
    let (mut rows, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("reference", &reference).append_pair("limit", "1000");
        if wanted {
            query.append_pair("wanted", "true");
        }
        if let Some(after) = &after {
            query.append_pair("after", after);
        }
        let answer = api.ask(Method::Get, &format!("/api/images/{route}?{}", query.finish()), None).await?;
        rows.extend(answer["satellites"].as_array().cloned().unwrap_or_default());
        after = answer["next"].as_str().map(String::from);
        if after.is_none() {
            break;
        }
    }
    let columns: [Column; 3] = [
        ("NAME", |r| text(r, "name")),
        ("STATE", |r| text(r, "state")),
        ("LAST SEEN", |r| text(r, "last_seen")),
    ];
    table(json, &rows, &columns);
    Ok(())
}

pub(super) async fn outbox(api: &Api, json: bool, what: Outbox) -> Result<()> {
    match what {
        Outbox::List { state } => {
            let rows = api.list("/api/outbox", &[("state", Some(state))]).await?;
            let columns: [Column; 6] = [
                ("KIND", |r| text(r, "kind")),
                ("NAME", |r| text(r, "name")),
                ("STATE", |r| text(r, "state")),
                ("TRIES", |r| r["attempts"].to_string()),
                ("NEXT", |r| text(r, "due_at")),
                ("ERROR", |r| text(r, "error")),
            ];
            table(json, &rows, &columns);
            Ok(())
        }
        Outbox::Retry { all } => {
            show(api.ask(Method::Post, &format!("/api/outbox/retry?all={all}"), None).await?)
        }
    }
}

pub(super) async fn audit(api: &Api, json: bool, what: Audit) -> Result<()> {
    let Audit::List { actor, resource, event_type, since } = what;
    let parameters = [("actor", actor), ("resource", resource), ("event_type", event_type), ("since", since)];
    let rows = api.list("/api/audit", &parameters).await?;
    let columns: [Column; 4] = [
        ("AT", |r| text(r, "timestamp")),
        ("EVENT", |r| text(r, "event_type")),
        ("ACTOR", |r| text(r, "actor")),
        ("RESOURCE", |r| text(r, "resource")),
    ];
    table(json, &rows, &columns);
    Ok(())
}

fn document(path: &std::path::Path) -> Result<Value> {
    let bad = |e: &dyn std::fmt::Display| Failure::usage(format!("{}: {e}", path.display()));
    if path.as_os_str() == "-" {
        return serde_json::from_reader(std::io::stdin().lock()).map_err(|e| bad(&e));
    }
    let file = std::fs::File::open(path).map_err(|e| bad(&e))?;
    serde_json::from_reader(std::io::BufReader::new(file)).map_err(|e| bad(&e))
}

fn pair(label: &str) -> Result<(String, Value)> {
    let (name, value) =
        label.split_once('=').ok_or_else(|| Failure::usage(format!("{label:?}: expected NAME=VALUE")))?;
    Ok((name.into(), value.into()))
}
