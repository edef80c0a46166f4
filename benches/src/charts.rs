//! A run's JSON as pictures: one chart for each kind of number, bars side by side.

use std::{error::Error, fs, path::Path};

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use serde_json::Value;

const WIDTH: i32 = 900;
const LABELS: i32 = 300;
const ROW: i32 = 18;
const HEAD: i32 = 64;
const BUDGET: RGBColor = RGBColor(0xb0, 0x20, 0x20);

/// One bar.
struct Bar {
    work: String,
    who: String,
    value: f64,
}

/// Draws `FILE` of `benches/run` (or of `benches/link`, which is a list) into `dir`.
///
/// # Errors
/// If the file is not such a run's, or the pictures cannot be written.
pub(crate) fn draw(file: &Path, dir: &Path) -> Result<(), Box<dyn Error>> {
    let run: Value = serde_json::from_slice(&fs::read(file)?)?;
    match run.as_array() {
        Some(cases) => {
            fs::create_dir_all(dir)?;
            chart(
                &dir.join("link.svg"),
                "Share of a shaped link that is payload (more is better)",
                Some(0.95),
                &link(cases),
            )
        }
        None => draw_run(&run, dir),
    }
}

/// Draws a run of `benches/run`.
///
/// # Errors
/// If it is none, or the pictures cannot be written.
pub(crate) fn draw_run(run: &Value, dir: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(dir)?;
    let gib = run["gib"].as_f64().ok_or("not a run of benches/run: it has no `gib`")?;
    // Nothing is what was not measured: of a process that is not known, or was gone too soon.
    let of = |field: &str, scale: f64| {
        let mut all = bars(&run["samples"], "work", |s| s[field].as_f64().map(|v| v * scale));
        all.retain(|bar| bar.value > 0.0);
        all
    };
    // These move several times the content: they are there for memory, and per GiB of content they would mislead.
    let per_byte = |field: &str, scale: f64| {
        let mut all = of(field, scale);
        all.retain(|bar| !bar.work.contains("of the whole") && !bar.work.contains("at once"));
        all
    };
    let file = |name: &str| dir.join(name);
    chart(&file("cpu.svg"), "CPU seconds per GiB (less is better)", None, &per_byte("cpu_s", 1.0 / gib))?;
    chart(
        &file("memory.svg"),
        "Peak of resident memory, MiB (less is better)",
        Some(16.0),
        &of("peak_kib", 1.0 / 1024.0),
    )?;
    chart(
        &file("written.svg"),
        "Bytes written to the disk per byte of content (less is better)",
        Some(1.02),
        &per_byte("written", 1.0 / gib / f64::from(1 << 30)),
    )?;
    let mut rates = bars(&run["rates"], "what", Value::as_f64);
    rates.retain(|bar| bar.work.contains("/s"));
    chart(&file("manifests.svg"), "Manifests served per second (more is better)", None, &rates)
}

/// Medians of what `of` finds in the samples of each row.
fn bars(rows: &Value, work: &str, of: impl Fn(&Value) -> Option<f64>) -> Vec<Bar> {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let bar = |row: &Value| {
        let values = row["samples"].as_array()?.iter().filter_map(&of).collect();
        let value = crate::results::median(values);
        let text = |name: &str| row[name].as_str().map(str::to_string);
        value.is_finite().then_some(Bar { work: text(work)?, who: text("who")?, value })
    };
    rows.iter().filter_map(bar).collect()
}

fn link(cases: &[Value]) -> Vec<Bar> {
    let mut all = Vec::new();
    for case in cases {
        let work = format!(
            "{} Mbit/s, {} ms, {} %: {}",
            case["mbit"],
            case["rtt_ms"],
            case["loss"],
            case["work"].as_str().unwrap_or_default()
        );
        let number = |name: &str| {
            let value = case[name].as_f64().or_else(|| case[name].as_str()?.parse().ok());
            // Who was not there took "nan" seconds.
            value.filter(|v| v.is_finite())
        };
        for (who, field) in [("satellite", "satellite_s"), ("4 curl", "curl_s"), ("skopeo", "skopeo_s")] {
            if let (Some(bytes), Some(mbit), Some(seconds)) = (number("bytes"), number("mbit"), number(field))
            {
                all.push(Bar {
                    work: work.clone(),
                    who: who.into(),
                    value: bytes * 8.0 / (mbit * 1e6) / seconds,
                });
            }
        }
    }
    all
}

fn color(who: &str) -> RGBColor {
    match who {
        "satellite" => RGBColor(0x1f, 0x6f, 0xb2),
        "nginx" | "4 curl" => RGBColor(0x8f, 0xa8, 0x8a),
        "docker-registry" => RGBColor(0xd9, 0x9a, 0x4e),
        "skopeo" => RGBColor(0xb5, 0x7f, 0xb0),
        _ => RGBColor(0xa0, 0xa0, 0xa0),
    }
}

/// One picture, with satellite's budget as a line where there is one; none without bars.
fn chart(path: &Path, title: &str, budget: Option<f64>, bars: &[Bar]) -> Result<(), Box<dyn Error>> {
    if bars.is_empty() {
        return Ok(());
    }
    let groups = bars.chunk_by(|a, b| a.work == b.work).count();
    let height = HEAD + (bars.len() as i32) * ROW + (groups as i32) * 10 + 12;
    let root = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let plain = ("sans-serif", 13).into_font();
    let right = plain.color(&BLACK).pos(Pos::new(HPos::Right, VPos::Center));
    let left = plain.color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
    root.draw(&Text::new(title, (16, 16), ("sans-serif", 18).into_font().color(&BLACK)))?;
    let most = bars.iter().map(|b| b.value).chain(budget).fold(f64::MIN_POSITIVE, f64::max);
    let at = |value: f64| LABELS + (value / most * f64::from(WIDTH - LABELS - 190)) as i32;
    if let Some(budget) = budget {
        let x = at(budget);
        // Broken, so that it cannot be taken for a bar.
        for top in (HEAD - 8..height - 12).step_by(8) {
            root.draw(&PathElement::new([(x, top), (x, top + 4)], BUDGET.stroke_width(1)))?;
        }
        let above = ("sans-serif", 12).into_font().color(&BUDGET).pos(Pos::new(HPos::Center, VPos::Bottom));
        root.draw(&Text::new(format!("satellite's budget: {budget}"), (x, HEAD - 9), above))?;
    }
    let mut y = HEAD;
    for group in bars.chunk_by(|a, b| a.work == b.work) {
        root.draw(&Text::new(group[0].work.as_str(), (LABELS - 10, y + ROW / 2), right.clone()))?;
        for bar in group {
            let (end, middle) = (at(bar.value), y + ROW / 2);
            root.draw(&Rectangle::new(
                [(LABELS, y + 2), (end.max(LABELS + 1), y + ROW - 2)],
                color(&bar.who).mix(0.85).filled(),
            ))?;
            let digits = if bar.value >= 100.0 { 0 } else { 2 };
            let label = format!("{:.digits$}  {}", bar.value, bar.who);
            // The line of the budget does not go through words.
            let width = 8 * label.chars().count() as i32;
            root.draw(&Rectangle::new([(end + 4, y + 1), (end + 6 + width, y + ROW - 1)], WHITE.filled()))?;
            root.draw(&Text::new(label, (end + 6, middle), left.clone()))?;
            y += ROW;
        }
        y += 10;
    }
    root.present()?;
    Ok(())
}
