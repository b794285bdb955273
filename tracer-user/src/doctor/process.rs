//! What there is to trace in one process, and how well its stacks will be named.

use std::sync::Arc;

use super::Finding;
use crate::allocators::cxx::readable;
use crate::allocators::discover::discover;
use crate::allocators::usdt::samplers;
use crate::golang::{GoError, GoProcess};
use crate::target::debug_files::DebugFiles;
use crate::target::memory::ProcessMemory;
use crate::target::{AddressSpace, Kind, Module, ModuleTable, Target};
use crate::units::human_size;
use crate::unwind::compile::compile;

pub(super) fn examine(target: &Target) -> Vec<Finding> {
    let mut findings = vec![process(target)];
    let mut modules = ModuleTable::new();
    match AddressSpace::open(Arc::clone(&target.process), &mut modules) {
        Ok(_) => {
            findings.push(allocators(target, &modules));
            findings.extend(go_heap(target));
            findings.extend(sampler(&modules));
            findings.extend(unreadable(&modules));
        }
        Err(error) => findings.push(Finding::problem(
            "allocator",
            format!("its mappings cannot be read: {error}"),
            "check that it still runs",
        )),
    }
    findings.push(symbols(target));
    findings.push(stacks(target));
    findings.extend(memory(target));
    findings
}

fn process(target: &Target) -> Finding {
    let mut facts = vec![
        format!("{} (PID {})", target.comm, target.pid),
        format!("user {}", target.uid),
        target.exe.display().to_string(),
    ];
    if target.exe_deleted {
        facts.push("deleted since it started (no hindrance)".to_owned());
    }
    if target.namespaced_pid != target.pid {
        facts.push(format!("PID {} in its own namespace", target.namespaced_pid));
    }
    if let Some(id) = &target.container_id {
        facts.push(format!("container {}", id.get(..12).unwrap_or(id)));
    }
    Finding::ok("process", facts.join(", "))
}

fn allocators(target: &Target, modules: &ModuleTable) -> Finding {
    let found: Vec<String> = modules
        .iter()
        .filter_map(|(_, module)| {
            let allocator = discover(module, &[])?;
            let mut functions: Vec<_> =
                allocator.hooks.iter().map(|hook| readable(&hook.name)).collect();
            functions.dedup();
            Some(format!(
                "{} in {}: {}",
                allocator.name,
                module.path.display(),
                functions.join(", ")
            ))
        })
        .collect();
    match (found.is_empty(), target.kind) {
        (false, _) => Finding::ok("allocator", found.join("; ")),
        (true, Kind::Go) => Finding::ok("allocator", "none of C's; its memory is in its Go heap"),
        (true, Kind::Native) => Finding::problem(
            "allocator",
            "no file that it has mapped defines malloc and free",
            "trace a build that is not stripped, or one that links its C library dynamically",
        ),
    }
}

/// The Go heap, if there is one.
fn go_heap(target: &Target) -> Option<Finding> {
    let heap = GoProcess::open(target).and_then(|process| {
        process.hooks()?;
        Ok((process.version.text.clone(), process.sampling_rate()?))
    });
    let name = "go heap";
    Some(match heap {
        Err(GoError::NotGo) => return None,
        Err(error) => Finding::problem(name, error.to_string(), "see docs/go.md for what is known"),
        Ok((version, 0)) => Finding::warning(
            name,
            format!("{version}, whose profiler is off (runtime.MemProfileRate is 0)"),
            "turn it on for as long as it is traced: outlive attach --enable-go-profiling PID",
        ),
        Ok((version, rate)) => {
            Finding::ok(name, format!("{version}, one sample in {}", human_size(rate as f64)))
        }
    })
}

/// The sampler that the process brings itself.
fn sampler(modules: &ModuleTable) -> Option<Finding> {
    let found: Vec<String> = modules
        .iter()
        .flat_map(|(_, module)| samplers(module).into_iter().map(move |found| (module, found)))
        .map(|(module, found)| format!("{} in {}", found.provider.name(), module.path.display()))
        .collect();
    (!found.is_empty()).then(|| {
        let detail = format!("USDT points {}: heard instead of its allocators", found.join(", "));
        Finding::ok("sampler", detail)
    })
}

/// Code that is mapped from files which cannot be opened: an allocator in it would not be seen.
fn unreadable(modules: &ModuleTable) -> Option<Finding> {
    let is_unreadable = |module: &Module| module.identity.1 != 0 && module.file.is_none();
    let paths: Vec<_> = modules
        .iter()
        .filter(|(_, module)| is_unreadable(module))
        .map(|(_, module)| module.path.display().to_string())
        .collect();
    (!paths.is_empty()).then(|| {
        Finding::warning(
            "files",
            format!("cannot be read: {}", paths.join(", ")),
            "run outlive as root: files that were deleted or replaced need CAP_CHECKPOINT_RESTORE",
        )
    })
}

fn symbols(target: &Target) -> Finding {
    let build_id = target.exe_elf.build_id.as_deref();
    let level = target.exe_elf.names.level();
    if level == "full" {
        return Finding::ok("symbols", "full: functions, files and lines");
    }
    let elf = &target.exe_elf;
    let found = DebugFiles::find(&target.exe, &target.exe_file, elf, Some(&target.process));
    if let Some(debug) = found.candidates.first() {
        return Finding::ok(
            "symbols",
            format!("{level}, with debug information in {}", debug.path.display()),
        );
    }
    let identity = build_id.map_or("it has no build id".to_owned(), |id| format!("build id {id}"));
    let (detail, remedy) = if target.exe_elf.names.symtab {
        (
            "functions are named, files and lines are not",
            "build it with -g, or install its debug package",
        )
    } else {
        (
            "only exported functions are named",
            "install its debug package, or keep its symbols (no strip, no -s)",
        )
    };
    let word = if target.exe_elf.names.symtab { "no debug information" } else { "stripped" };
    Finding::warning("symbols", format!("{word}: {detail}; {identity}"), remedy)
}

fn stacks(target: &Target) -> Finding {
    let rows = compile(&target.exe_file).len();
    if rows > 0 {
        return Finding::ok("stacks", format!("its program has unwind tables ({rows} rows)"));
    }
    Finding::warning(
        "stacks",
        "its program has no unwind tables: stacks are followed by frame pointers, and say so where they end early",
        "keep .eh_frame (do not pass -fno-asynchronous-unwind-tables), or build with -fno-omit-frame-pointer",
    )
}

fn memory(target: &Target) -> Option<Finding> {
    let memory = ProcessMemory::read(&target.process).ok()?;
    let limit = match memory.limit_bytes {
        Some(limit) => format!("limit {}", human_size(limit as f64)),
        None => "no limit".to_owned(),
    };
    let resident = human_size(memory.rss_bytes as f64);
    Some(Finding::ok("memory", format!("resident {resident}, {limit}")))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;
    use crate::doctor::Level;
    use crate::target::Pid;

    struct Sleeper(Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ended = self.0.kill().and_then(|()| self.0.wait());
        }
    }

    #[test]
    fn a_stripped_program_is_described_with_its_allocator() {
        let sleeper = Sleeper(Command::new("/bin/sleep").arg("60").spawn().expect("starts"));
        // Right after the start, the C library is not mapped yet.
        let maps = format!("/proc/{}/maps", sleeper.0.id());
        while !std::fs::read_to_string(&maps).expect("runs").contains("libc.so") {
            std::thread::yield_now();
        }
        let target = Target::open(Pid(sleeper.0.id())).expect("can be traced");
        let findings = examine(&target);
        let of = |name| findings.iter().find(|finding| finding.name == name).expect("looked at");
        assert!(of("process").detail.starts_with("sleep (PID "));
        assert_eq!(of("allocator").level, Level::Ok);
        assert!(of("allocator").detail.contains("malloc"), "{findings:?}");
        assert!(of("symbols").detail.contains("stripped"), "{findings:?}");
        assert!(!findings.iter().any(Finding::is_problem));
    }
}
