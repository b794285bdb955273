//! A running Go workload, and the conversation with it (`tests/workloads/go/conversation`).

use std::path::Path;
use std::process::Command;

use super::endpoint::Endpoint;
use super::goroutines::{self, Goroutine};
use super::profile::HeapProfile;
use crate::counts::number;
use crate::workload::Workload;

/// The variable for the mean of bytes between two samples; 1 to sample every allocation.
pub const RATE: &str = "WORKLOAD_PROFILE_RATE";

/// A running Go program; ended when dropped.
pub struct GoWorkload {
    workload: Workload,
    /// Where it serves its profiles; `None` without the profiler.
    endpoint: Option<Endpoint>,
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
        let served = || Endpoint::new(u16::try_from(port).expect("a port"));
        Self { workload, endpoint: (port != 0).then(served) }
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
        self.endpoint().heap()
    }

    /// The same of objects of one size.
    pub fn heap_of_size(&self, size: u64) -> HeapProfile {
        self.endpoint().heap_of_size(size)
    }

    /// Its own goroutines.
    pub fn goroutines(&self) -> Vec<Goroutine> {
        self.endpoint().goroutines()
    }

    /// How many goroutines blocked in a source file its own collector finds to be leaked (since Go 1.27).
    pub fn leaked_in(&self, source: &str) -> u64 {
        let text = String::from_utf8(self.endpoint().get("goroutineleak?debug=1")).unwrap();
        goroutines::leaked_in(&text, source)
    }

    /// Looks at the process while it collects no garbage, so that nothing is published; gives its own profile then.
    /// To serve a profile takes memory, and a small heap is collected once in a few requests.
    pub fn heap_around<T>(&mut self, look: impl Fn(u32) -> T) -> (HeapProfile, T) {
        let collector = self.set_collector("-1");
        let pid = self.pid();
        let seen = self.endpoint().heap_around(|| look(pid));
        self.set_collector(&collector);
        seen
    }

    /// Sets the heap's growth until the next collection, in percent; gives what it was.
    fn set_collector(&mut self, percent: &str) -> String {
        self.workload.talk.say(&format!("collector {percent}"));
        let said: serde_json::Value =
            serde_json::from_str(&self.workload.talk.hear()).expect("JSON");
        said["was"].as_i64().expect("a percentage").to_string()
    }

    /// Says `exit` and insists that it ends well.
    pub fn exit(self) {
        self.workload.exit();
    }

    /// One of its profiles, as it serves it.
    pub fn get(&self, what: &str) -> Vec<u8> {
        self.endpoint().get(what)
    }

    fn endpoint(&self) -> &Endpoint {
        self.endpoint.as_ref().expect("the program serves its profiles")
    }
}
