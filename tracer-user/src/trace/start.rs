//! Starting a program under the tracer: its first allocation, in main or in a constructor, is seen.
//!
//! The program is stopped before its first instruction. A static one has its allocator by then. A dynamic one runs until
//! its loader has mapped every library and makes way: at each system call that maps a file, new allocators are hooked
//! while the program stands still. Libraries are mapped before any constructor runs (glibc's elf/rtld.c, musl's
//! ldso/dynlink.c), and the first system call made outside the loader ends the watch.

use std::ffi::OsString;

use crate::fault::{Fault, Status};
use crate::sys::start::{Stop, StoppedChild};
use crate::target::maps::parse_executable;
use crate::target::{Pid, Target, VirtAddr};
use crate::trace::session::Session;

/// Starts a program, hooks its allocators, and lets it run, of which the caller is told first. The process is a child of this one: the
/// caller waits for it.
pub fn start(
    session: &mut Session,
    program: &OsString,
    arguments: &[OsString],
    is_about_to_run: impl FnOnce(Pid),
) -> Result<Pid, Fault> {
    let shown = program.to_string_lossy().into_owned();
    let child =
        StoppedChild::start(program, arguments).map_err(|error| cannot_start(&shown, &error))?;
    let pid = Pid(child.id());
    let target = Target::open(pid)?;
    let loader = target.exe_elf.interpreter.clone();
    let process = std::sync::Arc::clone(&target.process);
    session.admit_new(target)?;
    // musl's loader is its libc: hooked by now, and every system call of the program comes from it.
    let is_musl = |loader: &std::path::PathBuf| loader.to_string_lossy().contains("ld-musl");
    if loader.is_some_and(|loader| !is_musl(&loader)) {
        let read_maps = || process.read("maps").unwrap_or_default();
        watch_loading(session, &child, pid, read_maps)
            .map_err(|error| cannot_start(&shown, &error))??;
        // A Go runtime's description of itself holds addresses that the loader fills in last.
        session.attach_relocated(pid)?;
    }
    session.require_hooks(pid)?;
    is_about_to_run(pid);
    child.release().map_err(|error| cannot_start(&shown, &error))?;
    Ok(pid)
}

/// Lets the loader work, and hooks what it maps.
fn watch_loading(
    session: &mut Session,
    child: &StoppedChild,
    pid: Pid,
    read_maps: impl Fn() -> Vec<u8>,
) -> std::io::Result<Result<(), Fault>> {
    let Stop::SystemCall { instruction } = child.run_to_system_call()? else { return Ok(Ok(())) };
    // The first system call is the loader's own: the mapping it comes from is the loader.
    let mut known = parse_executable(&read_maps());
    let at = VirtAddr(instruction);
    let Some(loader) = known.iter().find(|mapping| (mapping.start..mapping.end).contains(&at))
    else {
        return Ok(Ok(()));
    };
    let loader = loader.start..loader.end;
    loop {
        let mappings = parse_executable(&read_maps());
        if mappings != known {
            known = mappings;
            if let Err(fault) = session.attach_new(pid) {
                return Ok(Err(fault));
            }
        }
        match child.run_to_system_call()? {
            Stop::SystemCall { instruction } if loader.contains(&VirtAddr(instruction)) => {}
            Stop::SystemCall { .. } | Stop::Ended => return Ok(Ok(())),
        }
    }
}

fn cannot_start(program: &str, error: &std::io::Error) -> Fault {
    Fault::new(
        Status::NoTarget,
        format!("cannot start {program}"),
        error.to_string(),
        "check the command after `--`; give a path if it is not in PATH",
    )
}
