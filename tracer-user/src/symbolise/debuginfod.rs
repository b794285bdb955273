//! Debug files by build id, from the debuginfod servers that the user has configured.
//!
//! In: build ids. Out: open files, after a while; or why there is none. Works in a thread of its own, keeps what it has fetched in the
//! user's cache directory, and asks no server again that cannot be reached. Without `DEBUGINFOD_URLS` it does nothing.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime};

use debuginfod::{BuildId, Client, HttpClient, HttpClientError, Readable};
use tempfile::NamedTempFile;
use ureq::http::StatusCode;

use crate::sys::host_names::look_up_without_modules;
use crate::target::elf::Elf;

/// The variables that configure every client of debuginfod.
const URLS: &str = "DEBUGINFOD_URLS";
const TIMEOUT: &str = "DEBUGINFOD_TIMEOUT";

const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// For one file, when the user has said nothing.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);
/// Largest debug file that is fetched.
const MAX_FILE_BYTES: u64 = 2 << 30;
/// Most that is kept in the cache directory.
const MAX_CACHE_BYTES: u64 = 2 << 30;

/// What became of a request: the debug file; none, when no server has it; or why it cannot be had.
pub(super) type Fetched = Result<Option<File>, String>;

/// Fetches debug files.
#[derive(Debug, Default)]
pub struct Debuginfod {
    thread: Option<Thread>,
    results: HashMap<String, Option<Fetched>>,
}

#[derive(Debug)]
struct Thread {
    requests: Sender<String>,
    results: Receiver<(String, Fetched)>,
}

impl Debuginfod {
    /// As the environment of this process says.
    pub fn from_environment() -> Self {
        let urls = std::env::var(URLS).unwrap_or_default();
        let urls: Vec<String> = urls.split_whitespace().map(str::to_owned).collect();
        if urls.is_empty() {
            return Self::default();
        }
        let seconds = std::env::var(TIMEOUT).ok().and_then(|text| text.trim().parse().ok());
        let patience = seconds.filter(|s| *s > 0).map_or(DEFAULT_PATIENCE, Duration::from_secs);
        let (requests, asked) = channel::<String>();
        let (sender, results) = channel();
        let serve = move || {
            let mut fetcher = Fetcher::new(&urls, patience);
            for build_id in asked {
                let outcome = fetcher.fetch(&build_id);
                if sender.send((build_id, outcome)).is_err() {
                    return;
                }
            }
        };
        match std::thread::Builder::new().name("debuginfod".to_owned()).spawn(serve) {
            Ok(_) => Self { thread: Some(Thread { requests, results }), ..Self::default() },
            Err(error) => {
                tracing::warn!("{URLS} is not used: no thread for it: {error}");
                Self::default()
            }
        }
    }

    /// Begins to fetch the debug file of a build; false when no server is configured.
    pub(super) fn request(&mut self, build_id: &str) -> bool {
        let Some(thread) = &self.thread else { return false };
        if self.results.contains_key(build_id) {
            return true;
        }
        self.results.insert(build_id.to_owned(), None);
        thread.requests.send(build_id.to_owned()).is_ok()
    }

    /// What became of a request; `None` while it is under way.
    pub(super) fn result(&mut self, build_id: &str) -> Option<Fetched> {
        let Some(thread) = &self.thread else { return Some(Ok(None)) };
        for (build_id, fetched) in thread.results.try_iter() {
            self.results.insert(build_id, Some(fetched));
        }
        match self.results.get(build_id)? {
            Some(Ok(Some(file))) => Some(file.try_clone().map(Some).map_err(|e| e.to_string())),
            Some(Ok(None)) => Some(Ok(None)),
            Some(Err(why)) => Some(Err(why.clone())),
            None => None,
        }
    }
}

/// The thread's side.
struct Fetcher {
    /// The client, or why nothing can be fetched any more.
    client: Result<Client, String>,
    cache: Option<Cache>,
}

impl Fetcher {
    fn new(urls: &[String], patience: Duration) -> Self {
        look_up_without_modules();
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_PATIENCE))
            .timeout_global(Some(patience))
            .user_agent(concat!("outlive/", env!("CARGO_PKG_VERSION")))
            .build();
        let client = Client::builder().http_client(Http(ureq::Agent::new_with_config(config)));
        let client = match client.build(urls.iter().map(String::as_str)) {
            Ok(Some(client)) => Ok(client),
            Ok(None) => Err("no server is named".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        };
        Self { client, cache: Cache::of_user() }
    }

    fn fetch(&mut self, build_id: &str) -> Fetched {
        if let Some(file) = self.cache.as_ref().and_then(|cache| cache.get(build_id)) {
            return Ok(Some(file));
        }
        let client = self.client.as_ref().map_err(Clone::clone)?;
        let response = match client.fetch_debug_info(&BuildId::formatted(build_id)) {
            Ok(response) => response,
            // No server answers as it should: asking for the next file would cost as long again.
            Err(error) => {
                let why = format!("{:#}", error.root_cause());
                self.client = Err(why.clone());
                return Err(why);
            }
        };
        let Some(mut response) = response else { return Ok(None) };
        let outcome = self.keep(build_id, &mut response.data);
        outcome.map(Some).map_err(|error| format!("{}: {error}", response.server_url))
    }

    /// Writes a debug file to the cache, or to where it goes when it is closed.
    fn keep(&self, build_id: &str, data: &mut impl Read) -> io::Result<File> {
        let Some(cache) = &self.cache else {
            let mut file = tempfile::tempfile()?;
            copy(data, &mut file)?;
            return Ok(file);
        };
        let mut unfinished = NamedTempFile::new_in(&cache.directory)?;
        copy(data, unfinished.as_file_mut())?;
        let elf = Elf::read(unfinished.as_file()).map_err(io::Error::other)?;
        if elf.build_id.as_deref() != Some(build_id) {
            return Err(io::Error::other("the file it gave belongs to another build"));
        }
        let path = cache.path(build_id);
        unfinished.persist(&path)?;
        cache.shrink(&path);
        File::open(path)
    }
}

fn copy(data: &mut impl Read, file: &mut File) -> io::Result<()> {
    if io::copy(&mut data.take(MAX_FILE_BYTES + 1), file)? > MAX_FILE_BYTES {
        return Err(io::Error::other("the file is larger than 2 GiB"));
    }
    Ok(())
}

/// The debug files kept in the user's cache directory, named by build id.
struct Cache {
    directory: PathBuf,
}

impl Cache {
    fn of_user() -> Option<Self> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let base = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
        let directory = base.join("outlive/debuginfod");
        match fs::create_dir_all(&directory) {
            Ok(()) => Some(Self { directory }),
            Err(error) => {
                tracing::debug!("no cache in {}: {error}", directory.display());
                None
            }
        }
    }

    fn path(&self, build_id: &str) -> PathBuf {
        self.directory.join(OsString::from(format!("{build_id}.debug")))
    }

    fn get(&self, build_id: &str) -> Option<File> {
        let file = File::open(self.path(build_id)).ok()?;
        // Its time is when it was last of use.
        if let Err(error) = file.set_modified(SystemTime::now()) {
            tracing::debug!("{build_id}.debug keeps its time: {error}");
        }
        Some(file)
    }

    /// Removes what was not of use for longest, but never `newest`.
    fn shrink(&self, newest: &Path) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .filter_map(|entry| {
                let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|file| file.1).sum();
        for (_, size, path) in files.iter().filter(|file| file.2 != newest) {
            if total <= MAX_CACHE_BYTES {
                break;
            }
            match fs::remove_file(path) {
                Ok(()) => total -= size,
                Err(error) => tracing::debug!("{} stays: {error}", path.display()),
            }
        }
    }
}

/// The HTTP client as the crate wants it.
#[derive(Debug)]
struct Http(ureq::Agent);

/// The body of an answer.
struct Body(ureq::BodyReader<'static>);

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl HttpClient for Http {
    fn get(&self, url: &str) -> Result<Box<dyn Readable>, HttpClientError> {
        match self.0.get(url).call() {
            Ok(response) => Ok(Box::new(Body(response.into_body().into_reader()))),
            Err(ureq::Error::StatusCode(code)) => Err(StatusCode::from_u16(code).map_or_else(
                |error| HttpClientError::Other(error.into()),
                HttpClientError::StatusCode,
            )),
            Err(error) => Err(HttpClientError::Other(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_server_nothing_is_asked() {
        let mut none = Debuginfod::default();
        assert!(!none.request("00"));
        assert!(matches!(none.result("00"), Some(Ok(None))));
    }

    #[test]
    fn the_cache_forgets_what_was_of_use_longest_ago() {
        let dir = tempfile::tempdir().expect("directory");
        let cache = Cache { directory: dir.path().to_owned() };
        let minutes = |n| SystemTime::UNIX_EPOCH + Duration::from_mins(n);
        for (name, age) in [("aa", 3), ("bb", 1), ("cc", 2)] {
            let file = File::create(cache.path(name)).expect("created");
            file.set_len(MAX_CACHE_BYTES / 2).expect("sparse");
            file.set_modified(minutes(age)).expect("time");
        }
        cache.shrink(&cache.path("aa"));
        assert!(cache.get("bb").is_none() && cache.get("cc").is_some());
        File::create(cache.path("dd")).expect("created").set_len(1).expect("sparse");
        cache.shrink(&cache.path("dd"));
        assert!(cache.get("aa").is_none(), "cc was looked at since");
        assert!(cache.get("cc").is_some() && cache.get("dd").is_some());
    }
}
