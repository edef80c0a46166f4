//! Progress of a transfer: bars on a terminal, plain lines otherwise, JSON where asked.

use std::{
    collections::HashMap,
    io::IsTerminal,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use satellite_core::{
    oci::Digest,
    replicate::{Event, Sink},
};

use crate::{human, output};

/// Bars beside the total; more blobs than that only count.
const MAX_BARS: usize = 8;
/// Between two plain lines about the whole.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Who shows it.
pub(crate) enum Show {
    Nothing,
    Json,
    Text,
}

/// A listener that shows events as they come.
pub(crate) fn sink(show: &Show) -> Sink {
    match show {
        Show::Nothing => Arc::new(|_| ()),
        Show::Json => Arc::new(|event| output::json(&event)),
        Show::Text if std::io::stderr().is_terminal() => {
            let bars = Mutex::new(Bars::new());
            Arc::new(move |event| bars.lock().unwrap_or_else(PoisonError::into_inner).hear(&event))
        }
        Show::Text => {
            let lines = Mutex::new(Lines::default());
            Arc::new(move |event| lines.lock().unwrap_or_else(PoisonError::into_inner).hear(&event))
        }
    }
}

/// Bytes that are here of each blob under way, and of all.
#[derive(Default)]
struct Count {
    at: HashMap<Digest, u64>,
    done: u64,
    total: u64,
}

impl Count {
    /// How many bytes an event adds to the whole.
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Planned { bytes, .. } => self.total = *bytes,
            Event::BlobBegun { digest, resumed, .. } => {
                // Begun again after wrong bytes: what was counted is not here any more.
                if let Some(at) = self.at.insert(digest.clone(), *resumed) {
                    self.done = self.done.saturating_sub(at.saturating_sub(*resumed));
                }
            }
            Event::BlobProgress { digest, at } => {
                if let Some(old) = self.at.get_mut(digest) {
                    self.done += at.saturating_sub(*old);
                    *old = *at;
                }
            }
            _ => {}
        }
    }
}

struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    blobs: HashMap<Digest, ProgressBar>,
    count: Count,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let total = all.add(ProgressBar::no_length());
        total.set_style(style(
            "{spinner} {msg:20} {bar:32} {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {eta:>5}",
        ));
        total.set_message("reading manifests");
        total.enable_steady_tick(Duration::from_millis(120));
        Self { all, total, blobs: HashMap::new(), count: Count::default() }
    }

    fn hear(&mut self, event: &Event) {
        self.count.hear(event);
        match event {
            Event::Planned { blobs, bytes, .. } => {
                self.total.set_length(*bytes);
                self.total.set_message(format!("{blobs} blobs"));
            }
            Event::BlobBegun { digest, resumed, size } if self.blobs.len() < MAX_BARS => {
                let bar = self.blobs.entry(digest.clone()).or_insert_with(|| {
                    let bar = self.all.add(ProgressBar::new(*size));
                    bar.set_style(style("  {msg:20} {bar:32} {bytes:>10}/{total_bytes:10}"));
                    bar.set_message(digest.short().to_string());
                    bar
                });
                bar.set_position(*resumed);
            }
            Event::BlobProgress { digest, at } => {
                if let Some(bar) = self.blobs.get(digest) {
                    bar.set_position(*at);
                }
                self.total.set_position(self.count.done);
            }
            Event::BlobRetry { digest, source, cause, .. } => {
                self.say(&format!("{}: {source}: {cause}; trying again", digest.short()));
            }
            Event::BlobDone { digest, .. } => {
                if let Some(bar) = self.blobs.remove(digest) {
                    bar.finish_and_clear();
                }
            }
            Event::ImageDone { .. } | Event::ImageFailed { .. } => {
                self.total.finish_and_clear();
                if let Some(text) = closing(event) {
                    self.say(&text);
                }
            }
            Event::BlobBegun { .. } => {}
        }
    }

    fn say(&self, text: &str) {
        let _ = self.all.println(text);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

#[derive(Default)]
struct Lines {
    count: Count,
    last: Option<Instant>,
}

impl Lines {
    fn hear(&mut self, event: &Event) {
        self.count.hear(event);
        match event {
            Event::Planned { blobs, bytes, present_blobs, present_bytes } => {
                self.last = Some(Instant::now());
                output::error(&format!(
                    "{blobs} blobs to fetch ({}), {present_blobs} here already ({})",
                    human::size(*bytes),
                    human::size(*present_bytes)
                ));
            }
            Event::BlobProgress { .. } if self.last.is_none_or(|t| t.elapsed() >= LINE_EVERY) => {
                self.last = Some(Instant::now());
                let done = human::size(self.count.done);
                // A push has no plan: what the other side lacks shows as it goes.
                output::error(&match self.count.total {
                    0 => done,
                    total => format!("{done} of {}", human::size(total)),
                });
            }
            Event::BlobBegun { digest, resumed, size } if *resumed > 0 => {
                let (resumed, size) = (human::size(*resumed), human::size(*size));
                output::error(&format!("{}: going on at {resumed} of {size}", digest.short()));
            }
            Event::BlobRetry { digest, source, cause, .. } => {
                output::error(&format!("{}: {source}: {cause}; trying again", digest.short()));
            }
            Event::ImageDone { .. } | Event::ImageFailed { .. } => {
                if let Some(text) = closing(event) {
                    output::error(&text);
                }
            }
            _ => {}
        }
    }
}

/// The line that ends an image.
fn closing(event: &Event) -> Option<String> {
    match event {
        Event::ImageDone { image, digest, unchanged: true } => Some(format!("{image}: unchanged, {digest}")),
        Event::ImageDone { image, digest, unchanged: false } => Some(format!("{image}: {digest}")),
        // The caller reports failures at the end, where they are not missed.
        _ => None,
    }
}
