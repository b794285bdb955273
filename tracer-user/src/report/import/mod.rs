//! Profiles from files.
//!
//! In: bytes that anyone may have written. Out: a [`Profile`] or reports, or why there are none. Sizes are limited, and every index is
//! checked.

mod documents;
mod folded;
mod pprof;
mod report;

use std::io::Read;

use flate2::read::MultiGzDecoder;

pub use self::report::report;
use super::model::{Report, TargetSection};
use super::profile::Profile;

/// Most bytes that are read, unpacked: profiles of large programs have a tenth of it.
const MAX_BYTES: u64 = 256 << 20;
/// Most frames of a stack; those further out are cut off.
const MAX_DEPTH: usize = 4096;
/// Most frames of all stacks.
const MAX_FRAMES: usize = 64 << 20;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The system says so.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// There is more in it than is read.
    #[error("it holds more than {MAX_BYTES} bytes, or more than {MAX_FRAMES} frames")]
    TooLarge,
    /// It is of no known format, or of one that was damaged.
    #[error("it is no profile: {0}")]
    Damaged(String),
    /// It is about something else than memory.
    #[error("its samples are not of memory: {0}")]
    NotOfMemory(String),
    /// It is what another tool made of two profiles.
    #[error("it has negative values: it is the difference of two profiles already")]
    Difference,
}

/// What a file holds.
#[derive(Debug)]
pub enum Content {
    /// Reports of outlive, the last one on each process.
    Reports(Vec<Report>),
    /// Call stacks.
    Profile(Profile),
}

impl Content {
    /// Its call stacks.
    pub fn into_profile(self) -> Profile {
        match self {
            Self::Reports(reports) => Profile::of(&reports),
            Self::Profile(profile) => profile,
        }
    }
}

/// Reads a profile in pprof's format, folded stacks, or reports in JSON; compressed or not. `name` is what people call the file.
pub fn read(source: impl Read, name: &str) -> Result<Content, ImportError> {
    let bytes = limited(source)?;
    let bytes = if bytes.starts_with(&GZIP) {
        limited(MultiGzDecoder::new(bytes.as_slice()))?
    } else {
        bytes
    };
    if bytes.is_empty() {
        return Err(ImportError::Damaged("it is empty".to_owned()));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) if documents::are_in(text) => documents::read(text).map(Content::Reports),
        Ok(text) if is_text(text) => folded::read(text, name).map(Content::Profile),
        _ => pprof::read(&bytes, name).map(Content::Profile),
    }
}

fn limited(source: impl Read) -> Result<Vec<u8>, ImportError> {
    let mut bytes = Vec::new();
    source.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ImportError::TooLarge);
    }
    Ok(bytes)
}

/// Field numbers of a protocol buffer are control characters.
fn is_text(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

/// A process of which a file says only this.
fn described(exe: Option<&str>, build_id: Option<&str>, pid: u32, name: &str) -> TargetSection {
    let comm = exe.map_or(name, |exe| exe.rsplit('/').next().unwrap_or(exe));
    TargetSection {
        pid,
        comm: comm.to_owned(),
        exe: exe.unwrap_or_default().to_owned(),
        build_id: build_id.map(str::to_owned),
        kind: "unknown",
        go_version: None,
        container_id: None,
        pod: None,
        allocators: Vec::new(),
        symbols: "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::build::fixture;
    use crate::report::export;

    fn pprof_of_fixture() -> (Profile, Vec<u8>) {
        let profile = Profile::of(&[fixture::report(Some(512 << 10), 10)]);
        let bytes = export::document(&profile, export::Format::Pprof, export::Metric::default());
        (profile, bytes)
    }

    #[test]
    fn what_was_written_is_read_again() {
        let (written, bytes) = pprof_of_fixture();
        let read = read(bytes.as_slice(), "heap.pb.gz").expect("a profile").into_profile();
        assert_eq!(read.totals(), written.totals());
        assert_eq!(read.sites.len(), written.sites.len());
        let functions = |profile: &Profile, index: usize| {
            let site = &profile.sites[index];
            profile.stack(site).map(|frame| frame.function.clone()).collect::<Vec<_>>()
        };
        assert_eq!(functions(&read, 0), functions(&written, 0));
        assert_eq!(read.processes[0].pid, 4242);
        assert_eq!((read.end_ns, read.mean_bytes), (written.end_ns, written.mean_bytes));
        assert_eq!(read.notices, written.notices);
        assert_eq!(read.sites[0].oldest_age_s, Some(29.0));
    }

    #[test]
    fn no_part_of_a_file_is_trusted() {
        let (_, bytes) = pprof_of_fixture();
        let whole = limited(MultiGzDecoder::new(bytes.as_slice())).expect("gzip");
        for length in 0..whole.len() {
            drop(read(&whole[..length], "cut"));
        }
        for position in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[position] ^= flip;
                drop(read(damaged.as_slice(), "damaged"));
            }
        }
        for nonsense in [&b""[..], b"\x1f\x8b\x00", b"\x7fELF\x02\x01", &[0xff; 64]] {
            assert!(read(nonsense, "nonsense").is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn an_endless_file_is_refused() {
        assert!(matches!(read(std::io::repeat(b'a'), "endless"), Err(ImportError::TooLarge)));
    }
}
