//! A site a line, with commas between (RFC 4180), for spreadsheets and data frames.

use crate::report::profile::{Profile, ProfileSite};
use crate::report::stacks::own_frame;

const HEADING: [&str; 15] = [
    "pid",
    "process",
    "kind",
    "live_bytes",
    "live_bytes_low",
    "live_bytes_high",
    "live_count",
    "allocated_bytes",
    "allocated_count",
    "oldest_age_s",
    "function",
    "file",
    "line",
    "module",
    "stack",
];

pub(super) fn document(profile: &Profile) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail.
    drop(writer.write_record(HEADING));
    for site in &profile.sites {
        drop(writer.write_record(record(profile, site)));
    }
    writer.into_inner().unwrap_or_default()
}

fn record(profile: &Profile, site: &ProfileSite) -> [String; 15] {
    let process = profile.processes.get(site.process);
    let frames: Vec<_> = profile.stack(site).cloned().collect();
    let functions: Vec<_> = frames.iter().map(|frame| frame.function.as_str()).collect();
    let own = own_frame(&frames);
    let amounts = site.amounts;
    let [low, high] = site.live_bytes_ci95;
    [
        process.map_or_else(String::new, |process| process.pid.to_string()),
        process.map_or_else(String::new, |process| process.comm.clone()),
        site.kind.to_owned(),
        amounts.live_bytes.to_string(),
        low.to_string(),
        high.to_string(),
        amounts.live_count.to_string(),
        amounts.allocated_bytes.to_string(),
        amounts.allocated_count.to_string(),
        site.oldest_age_s.map_or_else(String::new, |age| age.to_string()),
        own.map_or_else(String::new, |frame| frame.function.clone()),
        own.and_then(|frame| frame.file.clone()).unwrap_or_default(),
        own.and_then(|frame| frame.line).map_or_else(String::new, |line| line.to_string()),
        own.and_then(|frame| frame.module.clone()).unwrap_or_default(),
        functions.join(";"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::build::fixture;

    #[test]
    fn every_site_is_a_record_whatever_its_names_hold() {
        let profile = Profile::of(&[fixture::report(None, 10)]);
        let text = document(&profile);
        let mut reader = csv::Reader::from_reader(text.as_slice());
        let records: Vec<_> = reader.records().map(|record| record.expect("a record")).collect();
        assert_eq!(records.len(), profile.sites.len());
        assert_eq!(&records[0][3], "10485760");
        assert_eq!((&records[0][10], &records[0][12]), ("make_entry", "12"));
        assert!(records.iter().any(|r| r[14].contains("Registry<shop::Order, std::less")));
    }
}
