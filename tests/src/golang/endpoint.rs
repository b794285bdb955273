//! Where a Go program on loopback serves its own profiles: `net/http/pprof`.

use std::fmt::Debug;

use super::goroutines::Goroutine;
use super::profile::HeapProfile;

/// How often a comparison is tried: a program that collects garbage in between publishes another profile.
const ATTEMPTS: usize = 30;

/// `/debug/pprof` on a port of loopback.
pub struct Endpoint {
    port: u16,
}

impl Endpoint {
    /// Whether or not anybody listens yet.
    pub fn new(port: u16) -> Self {
        Self { port }
    }

    /// Whether profiles are served.
    pub fn answers(&self) -> bool {
        self.try_get("heap").is_ok()
    }

    /// The program's own heap profile.
    pub fn heap(&self) -> HeapProfile {
        HeapProfile::parse(&self.get("heap"))
    }

    /// The same of objects of one size.
    pub fn heap_of_size(&self, size: u64) -> HeapProfile {
        HeapProfile::parse_size(&self.get("heap"), size)
    }

    /// Has it collect garbage.
    pub fn collect(&self) {
        self.get("heap?gc=1");
    }

    /// Its own goroutines.
    pub fn goroutines(&self) -> Vec<Goroutine> {
        Goroutine::parse_all(&String::from_utf8(self.get("goroutine?debug=2")).unwrap())
    }

    /// Looks at the program between two looks at its own profile that are equal, so that nothing was published in between.
    pub fn heap_around<T>(&self, look: impl Fn() -> T) -> (HeapProfile, T) {
        around(|| self.heap(), look)
    }

    pub(super) fn get(&self, what: &str) -> Vec<u8> {
        self.try_get(what).unwrap_or_else(|error| panic!("/debug/pprof/{what}: {error}"))
    }

    fn try_get(&self, what: &str) -> Result<Vec<u8>, ureq::Error> {
        let address = format!("http://127.0.0.1:{}/debug/pprof/{what}", self.port);
        ureq::get(&address).call()?.into_body().with_config().limit(u64::MAX).read_to_vec()
    }
}

/// Looks at a program between two statements of its own that are equal.
pub fn around<S: PartialEq + Debug, T>(statement: impl Fn() -> S, look: impl Fn() -> T) -> (S, T) {
    let mut before = statement();
    for _ in 0..ATTEMPTS {
        let seen = look();
        let after = statement();
        if after == before {
            return (before, seen);
        }
        before = after;
    }
    panic!("what an idle program says of itself changed {ATTEMPTS} times, last to {before:?}");
}
