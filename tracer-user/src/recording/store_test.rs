//! What is written to a recording comes back, whatever happens on the way.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{Moment, Recorded, Recording, RecordingError, Store, Traced};
use crate::report::fixture;
use crate::report::model::{FollowedGoSite, GoSite, Report};

const MINUTE_MS: i64 = 60_000;
/// An hour in 2026.
const START_MS: i64 = 498_611 * 60 * MINUTE_MS;

fn traced(pid: u32) -> Traced {
    Traced {
        exe: "/usr/bin/svc".to_owned(),
        container_id: None,
        comm: "svc".to_owned(),
        pid,
        process: format!("boot/{pid}"),
    }
}

/// A report that differs from one number to the next: sites grow, come and go.
fn report(number: u64) -> Report {
    let mut report = fixture::report(None, 10);
    report.totals.live_bytes += number * 100;
    report.window.seconds += number as f64;
    for (place, site) in report.sites.iter_mut().enumerate() {
        site.live_bytes += number * 4096 * place as u64;
        site.oldest_age_s = site.oldest_age_s.map(|age| age + 0.125 * number as f64);
        site.growth_bytes_per_s = Some(-1.5 * number as f64);
        let followed = FollowedGoSite {
            inherited_bytes: number,
            inherited_count: 1,
            oldest_age_cycles: 3,
            median_age_cycles: 2,
        };
        site.go = (place == 1).then(|| GoSite {
            now_bytes: number,
            now_count: 2,
            sampled_objects: None,
            followed: number.is_multiple_of(2).then_some(followed),
        });
    }
    if number % 3 == 1 {
        report.sites.remove(0);
    }
    report
}

/// As it is read: the largest first.
fn in_order(mut report: Report) -> serde_json::Value {
    report
        .sites
        .sort_by_key(|site| std::cmp::Reverse((site.kind == "allocation", site.live_bytes)));
    for (place, site) in report.sites.iter_mut().enumerate() {
        site.rank = place + 1;
    }
    serde_json::to_value(report).expect("JSON")
}

struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    Fixture { path: folder.path().join("svc.outlive"), _folder: folder }
}

/// Writes reports a minute apart.
fn write(store: &mut Store, run: Recorded, numbers: std::ops::Range<u64>) {
    for number in numbers {
        store.add(run, &report(number), START_MS + number as i64 * MINUTE_MS).expect("written");
    }
}

/// Every snapshot of the first series must be the report of its minute.
fn check(path: &Path) -> Vec<Moment> {
    check_some(path, 1)
}

/// One in so many.
fn check_some(path: &Path, step: usize) -> Vec<Moment> {
    let recording = Recording::open(path).expect("opened");
    let series = recording.series().expect("series")[0].id;
    let moments = recording.moments(series).expect("moments");
    for moment in moments.iter().step_by(step) {
        let number = (moment.at_ms - START_MS) / MINUTE_MS;
        let read = recording.report(*moment).expect("read");
        assert_eq!(in_order(read), in_order(report(number as u64)), "minute {number}");
    }
    moments
}

#[test]
fn reports_come_back() {
    let fixture = fixture();
    let mut store = Store::open(&fixture.path).expect("opened");
    let run = store.begin(&traced(7), START_MS).expect("begun");
    write(&mut store, run, 0..150);
    // A reader while it is written.
    assert_eq!(check(&fixture.path).len(), 150);
    drop(store);
    let mut store = Store::open(&fixture.path).expect("opened again");
    let run = store.begin(&traced(7), START_MS).expect("begun");
    write(&mut store, run, 150..160);
    assert_eq!(check(&fixture.path).len(), 160);
    let recording = Recording::open(&fixture.path).expect("opened");
    let at = |at_ms| recording.moment_at(1, at_ms).expect("read").map(|moment| moment.at_ms);
    assert_eq!(at(None), Some(START_MS + 159 * MINUTE_MS));
    assert_eq!(at(Some(START_MS + 3 * MINUTE_MS + 1)), Some(START_MS + 3 * MINUTE_MS));
    assert_eq!(at(Some(START_MS - 1)), None);
}

#[test]
fn a_restart_goes_on_with_its_series_and_a_second_process_has_its_own() {
    let fixture = fixture();
    let mut store = Store::open(&fixture.path).expect("opened");
    let first = store.begin(&traced(7), START_MS).expect("begun");
    let second = store.begin(&traced(8), START_MS).expect("begun");
    write(&mut store, first, 0..2);
    write(&mut store, second, 0..3);
    store.end(first).expect("ended");
    let again = store.begin(&traced(9), START_MS + 2 * MINUTE_MS).expect("begun");
    write(&mut store, again, 2..4);
    let series = Recording::open(&fixture.path).expect("opened").series().expect("series");
    let mut seen: Vec<_> =
        series.iter().map(|series| (series.pids.clone(), series.snapshots)).collect();
    seen.sort();
    assert_eq!(seen, [(vec![7, 9], 4), (vec![8], 3)]);
    let restarts = "SELECT group_concat(is_restart) FROM (SELECT is_restart FROM runs ORDER BY id)";
    let restarts: String =
        store.connection().query_row(restarts, [], |row| row.get(0)).expect("read");
    assert_eq!(restarts, "0,0,1");
}

#[test]
fn a_full_disk_costs_what_is_written_meanwhile_and_no_more() {
    let fixture = fixture();
    let mut store = Store::open(&fixture.path).expect("opened");
    let run = store.begin(&traced(7), START_MS).expect("begun");
    write(&mut store, run, 0..2);
    let limit = |store: &Store, pages: i64| {
        store.connection().pragma_update(None, "max_page_count", pages).expect("limited");
    };
    let used: i64 = store
        .connection()
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .expect("counted");
    limit(&store, used);
    let mut missed = 0;
    // What is free in the last pages may hold some.
    for number in 2..100 {
        let added = store.add(run, &report(number), START_MS + number as i64 * MINUTE_MS);
        missed += match added {
            Ok(()) if missed == 0 => 0,
            Err(RecordingError::Full) => 1,
            other => panic!("{other:?}"),
        };
    }
    assert!(missed > 0);
    limit(&store, used + 1000);
    write(&mut store, run, 100..103);
    let moments = check(&fixture.path);
    assert_eq!(moments.len() as i64 + missed, 103);
    assert_eq!(moments.iter().map(|moment| moment.missed_before).sum::<i64>(), missed);
}

#[test]
fn what_is_old_is_thinned_out_and_what_stays_is_right() {
    const DAYS: u64 = 9;
    const MINUTES: u64 = 24 * 60;
    let fixture = fixture();
    let mut store = Store::open(&fixture.path).expect("opened");
    store.connection().pragma_update(None, "synchronous", "off").expect("set");
    let run = store.begin(&traced(7), START_MS).expect("begun");
    write(&mut store, run, 0..DAYS * MINUTES);
    let moments = check_some(&fixture.path, 17);
    let now = START_MS + (DAYS * MINUTES - 1) as i64 * MINUTE_MS;
    let younger_than = |days: i64| {
        let minutes = days * MINUTES as i64;
        moments.iter().filter(|moment| now - moment.at_ms < minutes * MINUTE_MS).count()
    };
    let (day, week, older) =
        (younger_than(1), younger_than(7) - younger_than(1), moments.len() - younger_than(7));
    assert_eq!(day, MINUTES as usize);
    // One each ten minutes, and one each hour; the hour at the border may be whole still.
    assert!((6 * 144..=6 * 144 + 60).contains(&week), "{week}");
    assert!((48..=48 + 6).contains(&older), "{older}");
}

#[test]
fn one_writes_at_a_time() {
    let fixture = fixture();
    let store = Store::open(&fixture.path).expect("opened");
    assert!(matches!(Store::open(&fixture.path), Err(RecordingError::Locked)));
    drop(store);
    Store::open(&fixture.path).expect("free again");
}

#[test]
fn other_files_are_left_alone() {
    let fixture = fixture();
    fs::write(&fixture.path, "some text that is long enough to be looked at").expect("written");
    assert!(matches!(Store::open(&fixture.path), Err(RecordingError::NotARecording)));
    assert!(matches!(Recording::open(&fixture.path), Err(RecordingError::NotARecording)));
    fs::remove_file(&fixture.path).expect("removed");
    let other = rusqlite::Connection::open(&fixture.path).expect("opened");
    other.execute_batch("CREATE TABLE mine (id)").expect("made");
    assert!(matches!(Store::open(&fixture.path), Err(RecordingError::NotARecording)));
    other.pragma_update(None, "application_id", 0x6f75_746c).expect("set");
    other.pragma_update(None, "user_version", 99).expect("set");
    assert!(matches!(Recording::open(&fixture.path), Err(RecordingError::Newer(99, 1))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_damaged_file_is_an_error_and_nothing_worse(
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)
    ) {
        let fixture = fixture();
        let mut store = Store::open(&fixture.path).expect("opened");
        let run = store.begin(&traced(7), START_MS).expect("begun");
        write(&mut store, run, 0..4);
        drop(store);
        let mut bytes = fs::read(&fixture.path).expect("read");
        for (place, value) in places {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        fs::write(&fixture.path, bytes).expect("written");
        let read = || -> Result<(), RecordingError> {
            let recording = Recording::open(&fixture.path)?;
            for series in recording.series()? {
                for moment in recording.moments(series.id)? {
                    let _or_damaged = recording.report(moment).is_ok();
                }
            }
            Ok(())
        };
        let _or_damaged = read().is_ok();
    }
}
