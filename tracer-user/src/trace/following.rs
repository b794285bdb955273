//! Mappings of traced processes followed while they run: libraries loaded and unloaded.
//!
//! The kernel tells of each mapping of code as it is made. Where it may not (the right to perf events is missing), the
//! mappings are read every so often.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::sys::mapping_watch::MappingWatch;
use crate::target::{ModuleTable, Pid};
use crate::trace::kernel::Kernel;
use crate::trace::process::TracedProcess;

/// How often mappings are read when nothing tells of them: a library is to be traced within a second.
const WITHOUT_WATCH: Duration = Duration::from_millis(500);

/// Follows the mappings of traced processes.
#[derive(Debug)]
pub struct MappingFollower {
    watch: Option<MappingWatch>,
    last_read: Instant,
}

impl MappingFollower {
    /// Starts to watch.
    pub fn start() -> Self {
        let watch = MappingWatch::start().map_err(|error| {
            tracing::debug!("mappings are read every {WITHOUT_WATCH:?}: no perf events: {error}");
        });
        Self { watch: watch.ok(), last_read: Instant::now() }
    }

    /// Brings what is known of the processes' code up to date.
    pub fn follow(
        &mut self,
        processes: &mut BTreeMap<Pid, TracedProcess>,
        modules: &mut ModuleTable,
        kernel: &mut Kernel,
    ) {
        self.mark(processes);
        for process in processes.values_mut().filter(|process| process.mapped_code) {
            process.follow_mappings(modules, kernel);
        }
    }

    fn mark(&mut self, processes: &mut BTreeMap<Pid, TracedProcess>) {
        let mut all = false;
        match &mut self.watch {
            Some(watch) => {
                let mapped = watch.drain();
                all = mapped.any;
                for pid in mapped.processes {
                    if let Some(process) = processes.get_mut(&Pid(pid)) {
                        process.mapped_code = true;
                    }
                }
            }
            None if self.last_read.elapsed() >= WITHOUT_WATCH => {
                self.last_read = Instant::now();
                all = true;
            }
            None => {}
        }
        if all {
            for process in processes.values_mut() {
                process.mapped_code = true;
            }
        }
    }
}
