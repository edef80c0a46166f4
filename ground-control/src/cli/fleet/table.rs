//! What was answered, for people or for scripts.

use serde_json::Value;

use crate::cli::Result;

pub(super) fn text(row: &Value, name: &str) -> String {
    match row.get(name) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

pub(super) fn list(value: &Value) -> String {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

pub(super) fn labels(value: Option<&Value>) -> String {
    let map = value.and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(",")
}

#[expect(clippy::needless_pass_by_value, reason = "every caller gives away what was answered")]
pub(super) fn show(value: Value) -> Result<()> {
    if !value.is_null() {
        println!("{}", serde_json::to_string_pretty(&value).unwrap_or_default());
    }
    Ok(())
}

pub(super) fn line(json: bool, value: &Value, name: &str) -> Result<()> {
    if json {
        println!("{value}");
    } else {
        println!("{}", text(value, name));
    }
    Ok(())
}

/// A title, and the cell of a row.
pub(super) type Column = (&'static str, fn(&Value) -> String);

/// Columns as wide as they need to be; with `json` the rows as they came. Control characters of others do not reach the
/// terminal.
pub(super) fn table(json: bool, rows: &[Value], columns: &[Column]) {
    if json {
        println!("{}", serde_json::to_string(rows).unwrap_or_default());
        return;
    }
    let plain = |text: String| text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|(title, _)| (*title).to_string()).collect()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|(_, cell)| plain(cell(row))).collect()));
    let width = |n: usize| lines.iter().map(|l| l[n].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for cells in &lines {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    }
}
