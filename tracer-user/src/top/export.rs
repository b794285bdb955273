//! The report of a moment, written to a new file in the working directory.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use crate::report::json;
use crate::report::model::Report;

/// Writes it; gives the file's name. No file is overwritten.
pub(super) fn write(report: &Report, folder: &Path) -> Result<String, (String, io::Error)> {
    let time: String =
        report.window.end.chars().filter(|letter| !matches!(letter, '-' | ':')).collect();
    let name = format!("outlive-{}-{time}.json", report.target.pid);
    let file = OpenOptions::new().write(true).create_new(true).open(folder.join(&name));
    match file.and_then(|mut file| file.write_all(json::document(report).as_bytes())) {
        Ok(()) => Ok(name),
        Err(error) => Err((name, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_file_is_the_report_and_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let report = fixture::report(None, 10);
        let name = write(&report, folder.path()).expect("written");
        assert_eq!(name, "outlive-4242-20270115T080030.250Z.json");
        let text = std::fs::read_to_string(folder.path().join(&name)).expect("read");
        assert_eq!(text, json::document(&report));
        let (again, error) = write(&report, folder.path()).expect_err("it exists");
        assert_eq!((again, error.kind()), (name, io::ErrorKind::AlreadyExists));
    }
}
