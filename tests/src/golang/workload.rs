//! A running Go workload, and the conversation with it (`tests/workloads/go/conversation`).

use std::path::Path;
use std::process::Command;

use super::goroutines::Goroutine;
use super::profile::HeapProfile;
use crate::counts::number;
use crate::workload::Workload;

/// How often a comparison is tried. To serve a profile takes memory, so that a program with a small heap collects once
/// in a few requests, which publishes another profile.
const ATTEMPTS: usize = 30;

/// The variable for the mean of bytes between two samples; 1 to sample every allocation.
pub const RATE: &str = "WORKLOAD_PROFILE_RATE";

/// A running Go program; ended when dropped.
pub struct GoWorkload {
    workload: Workload,
    /// Where it serves its profiles; `None` without the profiler.
    port: Option<u64>,
}

impl GoWorkload {
    /// Starts a program and awaits its `ready`.
    pub fn start(program: &Path) -> Self {
        Self::start_with(program, &[])
    }

    /// Starts a program with variables of its environment, such as [`RATE`], and awaits its `ready`.
    pub fn start_with(program: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program);
        for name in ["GODEBUG", "GOGC", "GOMEMLIMIT"] {
            command.env_remove(name);
        }
        let mut workload = Workload::start_command(command.envs(variables.iter().copied()));
        workload.talk.say("endpoint");
        let port = number(&workload.talk.hear(), "port");
        Self { workload, port: (port != 0).then_some(port) }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.workload.pid()
    }

    /// Has it make so many steps; gives how much it holds then, by its own count.
    pub fn go(&mut self, steps: u64) -> u64 {
        self.workload.talk.say(&format!("go {steps}"));
        number(&self.workload.talk.hear(), "held")
    }

    /// As [`GoWorkload::go`]; looks at it again and again while it works, at least once.
    pub fn go_meanwhile(&mut self, steps: u64, look: impl Fn(u32)) -> u64 {
        self.workload.talk.say(&format!("go {steps}"));
        loop {
            look(self.pid());
            if let Some(line) = self.workload.talk.hear_if_said() {
                return number(&line, "held");
            }
        }
    }

    /// Has it collect garbage, which publishes what was allocated until now.
    pub fn collect(&mut self) {
        self.workload.talk.say("collect");
        let collections = number(&self.workload.talk.hear(), "collections");
        assert!(collections > 0, "a collection is counted");
    }

    /// Its own heap profile.
    pub fn heap(&self) -> HeapProfile {
        HeapProfile::parse(&self.get("heap"))
    }

    /// The same of objects of one size.
    pub fn heap_of_size(&self, size: u64) -> HeapProfile {
        HeapProfile::parse_size(&self.get("heap"), size)
    }

    /// Its own goroutines.
    pub fn goroutines(&self) -> Vec<Goroutine> {
        Goroutine::parse_all(&String::from_utf8(self.get("goroutine?debug=2")).unwrap())
    }

    /// Looks at it between two looks at its own profile that are equal, so that nothing was published in between.
    pub fn heap_around<T>(&self, look: impl Fn() -> T) -> (HeapProfile, T) {
        let mut before = self.heap();
        for _ in 0..ATTEMPTS {
            let seen = look();
            let after = self.heap();
            if after == before {
                return (before, seen);
            }
            before = after;
        }
        panic!("the profile of an idle program changed {ATTEMPTS} times");
    }

    /// Says `exit` and insists that it ends well.
    pub fn exit(self) {
        self.workload.exit();
    }

    fn get(&self, what: &str) -> Vec<u8> {
        let port = self.port.expect("the program serves its profiles");
        let address = format!("http://127.0.0.1:{port}/debug/pprof/{what}");
        let answer = ureq::get(&address).call().unwrap_or_else(|e| panic!("{address}: {e}"));
        let mut body = answer.into_body();
        body.with_config()
            .limit(u64::MAX)
            .read_to_vec()
            .unwrap_or_else(|e| panic!("{address}: {e}"))
    }
}
