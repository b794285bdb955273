//! Reports that outlive wrote as JSON: a document a line, one for each process and each interval.

use std::collections::HashMap;

use super::ImportError;
use crate::report::model::Report;
use crate::report::timeline::Course;

/// Whether a text is JSON rather than folded stacks.
pub(super) fn are_in(text: &str) -> bool {
    let inner = text.trim_start().strip_prefix('{').map(str::trim_start);
    inner.is_some_and(|inner| inner.starts_with(['"', '}']))
}

/// The last report on each process, in the order in which the processes come, with the timeline that all reports on it make.
pub(super) fn read(text: &str) -> Result<Vec<Report>, ImportError> {
    let mut reports: Vec<Report> = Vec::new();
    let mut courses: Vec<Course> = Vec::new();
    let mut places: HashMap<u32, usize> = HashMap::new();
    for report in serde_json::Deserializer::from_str(text).into_iter::<Report>() {
        let report = report.map_err(|error| {
            ImportError::Damaged(format!("JSON, but no report of outlive: {error}"))
        })?;
        let place = *places.entry(report.target.pid).or_insert(reports.len());
        if place < reports.len() {
            reports[place] = report;
        } else {
            reports.push(report);
            courses.push(Course::default());
        }
        courses[place].add(&reports[place]);
    }
    courses.into_iter().zip(&mut reports).for_each(|(course, report)| course.put_into(report));
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::build::fixture;
    use crate::report::json;

    #[test]
    fn the_last_report_on_each_process_is_read() {
        let mut first = fixture::report(None, 10);
        first.totals.live_bytes = 1;
        let mut other = fixture::report(None, 10);
        other.target.pid = 1;
        let last = fixture::report(None, 10);
        let text: String = [&first, &other, &last].into_iter().map(json::line).collect();
        assert!(are_in(&text));
        let reports = read(&text).expect("reports");
        let lines: Vec<String> = reports.iter().map(json::line).collect();
        assert_eq!(lines, [json::line(&last), json::line(&other)]);
        let timeline = reports[0].timeline.as_ref().expect("of two reports");
        assert_eq!(timeline.live_bytes, [1, last.totals.live_bytes]);
        assert_eq!(reports[1].timeline, None);
    }

    #[test]
    fn other_json_and_cut_json_is_refused() {
        for text in ["{}", "{\"schema\":\"outlive-diff/1\"}", "{\"a\": 1} main 5"] {
            assert!(are_in(text) && read(text).is_err(), "{text}");
        }
        let whole = json::line(&fixture::report(None, 10));
        for length in (1..whole.len() - 1).filter(|length| whole.is_char_boundary(*length)) {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        assert!(!are_in("{{closure}};main 5") && !are_in("main;leaf 4096"));
    }
}
