//! What a recording of weeks takes: the size of its file, and the time of a write and of a read.
//!
//! In: nothing; the process that is recorded is simulated, and so is the clock. Out: a table. The store, the thinning and the file are the
//! real ones.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use outlive::recording::{Recording, Store, Traced};

use crate::simulated::Simulated;

const WEEKS: u64 = 4;
const MINUTES_OF_WEEK: u64 = 7 * 24 * 60;
const MINUTE_MS: i64 = 60_000;
const SITES: u64 = 2000;
/// What a file of weeks may have.
const MOST_BYTES: u64 = 1 << 30;
const CASES: [(&str, u64); 2] = [("a tenth of the sites in a minute", 100), ("all sites", 1000)];

/// A recording of one process.
pub(crate) struct Recorded {
    what: &'static str,
    /// After each week.
    bytes: Vec<u64>,
    snapshots: u64,
    write: Times,
    read: Times,
    page: Duration,
}

/// How long something took.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    /// Of so many of a hundred it was no more.
    fn percentile(&mut self, percent: usize) -> Duration {
        self.0.sort();
        let place = (self.0.len().saturating_sub(1)) * percent / 100;
        self.0.get(place).copied().unwrap_or_default()
    }
}

/// Records all cases at once, each on a processor of its own.
pub(crate) fn measure(work: &Path) -> Result<Vec<Recorded>> {
    thread::scope(|scope| {
        let running = CASES.map(|(what, busy)| scope.spawn(move || record(what, busy, work)));
        let ended = running.into_iter().map(|case| {
            case.join().unwrap_or_else(|_| Err(anyhow!("the thread of a case panicked")))
        });
        ended.collect()
    })
}

fn record(what: &'static str, busy_per_mille: u64, work: &Path) -> Result<Recorded> {
    let folder = work.join(format!("recording-{busy_per_mille}"));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let file = folder.join("service.outlive");
    let mut process = Simulated::start(SITES, busy_per_mille)?;
    let mut store = Store::open(&file)?;
    let (mut write, mut bytes, mut at_ms) = (Times::default(), Vec::new(), 0);
    for week in 0..WEEKS {
        eprintln!("{what}: week {}", week + 1);
        // It is started anew each week.
        process.restart();
        let run = store.begin(&traced(week), at_ms)?;
        for _ in 0..MINUTES_OF_WEEK {
            at_ms += MINUTE_MS;
            let report = process.next_minute();
            let start = Instant::now();
            store.add(run, report, at_ms)?;
            write.0.push(start.elapsed());
        }
        store.end(run)?;
        bytes.push(size(&folder)?);
    }
    let live_bytes = process.next_minute().totals.live_bytes;
    ensure!(live_bytes > 0, "the process did nothing");
    drop(store);
    let (snapshots, read, page) = read(&file)?;
    Ok(Recorded { what, bytes, snapshots, write, read, page })
}

fn traced(week: u64) -> Traced {
    Traced {
        exe: "/usr/bin/service".to_owned(),
        container_id: None,
        comm: "service".to_owned(),
        pid: 4242,
        process: format!("boot/{week}"),
    }
}

/// Bytes of the file, and of what belongs to it.
fn size(folder: &Path) -> Result<u64> {
    let files = fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len()));
    files.sum()
}

/// Reads moments all over the recording, and all of it for a page.
fn read(file: &Path) -> Result<(u64, Times, Duration)> {
    let recording = Recording::open(file)?;
    let series = recording.series()?.into_iter().next().context("no series")?;
    let moments = recording.moments(series.id)?;
    let mut times = Times::default();
    for moment in moments.iter().step_by(moments.len().div_ceil(100)) {
        let start = Instant::now();
        recording.report(*moment)?;
        times.0.push(start.elapsed());
    }
    let last = moments.last().context("no moment")?;
    let start = Instant::now();
    let report = recording.report_with_course(series.id, *last)?;
    ensure!(report.timeline.is_some(), "no timeline");
    Ok((series.snapshots, times, start.elapsed()))
}

/// The page of the documentation.
pub(crate) fn page(results: Vec<Recorded>, host: &str) -> String {
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let ms = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1e3);
    let row = |mut case: Recorded| {
        let sizes: Vec<String> = case.bytes.iter().map(|bytes| mib(*bytes)).collect();
        let fits = case.bytes.iter().all(|bytes| *bytes < MOST_BYTES);
        let verdict = if fits { "as wanted" } else { "**not as wanted**" };
        format!(
            "| {} | {} | {verdict} | {} | {} | {} | {} | {} | {} |\n",
            case.what,
            sizes.join(" | "),
            case.snapshots,
            ms(case.write.percentile(50)),
            ms(case.write.percentile(100)),
            ms(case.read.percentile(50)),
            ms(case.read.percentile(100)),
            ms(case.page),
        )
    };
    let rows: String = results.into_iter().map(row).collect();
    format!(
        "# The size of recordings\n\n\
        Written by `cargo xtask bench recording`; all numbers come from one run of it.\n\n{host}.\n\n\
        A process with {SITES} call sites of 20 frames each is recorded each minute for four weeks, and started anew each week. \
        The process and the clock are simulated (`benches/src/simulated.rs`); the store, the thinning and the file are the real ones. \
        Ages and growth of all sites change each minute; what differs is how many sites allocate. \
        Less than 1 GiB is wanted.\n\n\
        | sites that allocate | week 1 | week 2 | week 3 | week 4 | | snapshots kept | a write, usual | longest | a read of a moment, usual | longest | the page of all four weeks |\n\
        |---|---|---|---|---|---|---|---|---|---|---|---|\n{rows}\n\
        A write is a snapshot in one transaction, some of them with the thinning of old ones. What is thinned out leaves room in the file that is used again: \
        it does not shrink.\n"
    )
}
