//! Log lines: for people, or JSON for machines.

use std::io::Write;

use log::kv::{Key, Value, VisitSource};
use serde_json::Map;

struct Fields<'a>(&'a mut Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let value = match (value.to_i64(), value.to_u64(), value.to_bool()) {
            (Some(n), _, _) => n.into(),
            (_, Some(n), _) => n.into(),
            (_, _, Some(b)) => b.into(),
            _ => value.to_string().into(),
        };
        self.0.insert(key.to_string(), value);
        Ok(())
    }
}

/// `default` unless `RUST_LOG` says otherwise; one JSON object a line, or a line of text.
pub(super) fn init(default: &str, json: bool) {
    let env = env_logger::Env::default().filter_or("RUST_LOG", default);
    let mut builder = env_logger::Builder::from_env(env);
    builder.format_target(false);
    if json {
        builder.format(|out, record| {
            let mut line = Map::new();
            line.insert("time".into(), crate::http::time(crate::db::now()).into());
            line.insert("level".into(), record.level().as_str().to_lowercase().into());
            line.insert("target".into(), record.target().into());
            line.insert("message".into(), record.args().to_string().into());
            let _ = record.key_values().visit(&mut Fields(&mut line));
            writeln!(out, "{}", serde_json::Value::Object(line))
        });
    }
    builder.init();
}
