//! `cargo xtask vm test`: the end-to-end tests on other kernels than this host's, each in a virtual machine.
//!
//! In: names of kernels; none for all. Out: what failed, `docs/kernels.md` when all kernels were asked for and got to the end, and as the
//! last line `N passed, N failed`. Everything fetched and made lies under `target/vm`.

mod image;
mod kernels;
mod machine;
mod outcome;
mod page;
mod programs;

use std::io::{Write as _, stdout};
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, anyhow};

use crate::failure::{self, OrFail as _};
use crate::tally::Tally;
use crate::{host, product, progress, setup};
use kernels::{KERNELS, Kernel};
use outcome::Outcome;

/// Suites that run in a machine; [`page`] tells why the others do not.
const SUITES: [&str; 8] =
    ["accounting", "bad_input", "doctor", "follow", "links", "report", "run", "stacks"];

/// Machines that run at the same time: those with single links mostly wait.
const AT_ONCE: usize = 2;

/// Runs the suites on the kernels; whether all tests passed.
pub(crate) fn test(names: &[String]) -> Result<bool> {
    let chosen = kernels::choose(names)?;
    host::require_root("the tests cannot be prepared", "cargo xtask vm test")?;
    host::require_c_compiler("an end-to-end test")?;
    host::mount_tracefs()?;
    machine::install()?;
    setup::setup()?;
    product::build()?;
    let what = "the machine's files cannot be made";
    let image = programs::build()
        .and_then(|programs| image::make(&programs))
        .or_fail(what, "see target/vm for how far it came")?;
    let mut sum = Tally::default();
    let mut outcomes = Vec::new();
    for kernels in chosen.chunks(AT_ONCE) {
        for (kernel, outcome) in run_at_once(kernels, &image) {
            match outcome {
                Ok(outcome) => {
                    sum += outcome.sum();
                    outcomes.push((kernel, outcome));
                }
                Err(error) => {
                    failure::print(&error);
                    sum.failed += 1;
                }
            }
        }
    }
    if outcomes.len() == KERNELS.len() && outcomes.iter().all(|(_, outcome)| outcome.is_complete())
    {
        page::write(&outcomes)?;
    } else if chosen.len() == KERNELS.len() {
        progress::say("docs/kernels.md stays as it is: not all kernels got to the end");
    }
    writeln!(stdout(), "{sum}").context("cannot write the result")?;
    Ok(sum.failed == 0)
}

fn run_at_once(kernels: &[Kernel], image: &Path) -> Vec<(Kernel, Result<Outcome>)> {
    thread::scope(|scope| {
        let running: Vec<_> =
            kernels.iter().map(|kernel| (*kernel, scope.spawn(|| run(kernel, image)))).collect();
        let ended = running.into_iter().map(|(kernel, thread)| {
            let outcome = thread.join().unwrap_or_else(|_| Err(anyhow!("its thread panicked")));
            (kernel, outcome)
        });
        ended.collect()
    })
}

/// Fetches a kernel, boots it, and tells what came of it.
fn run(kernel: &Kernel, image: &Path) -> Result<Outcome> {
    let remedy = "check that apt's mirror of Debian is reachable";
    let fetched = kernels::fetch(kernel)
        .or_fail(&format!("the kernel {} cannot be fetched", kernel.name), remedy)?;
    progress::say(&format!("booting Linux {} of {}", fetched.release, kernel.suite));
    let console = machine::run(kernel, &fetched.vmlinuz, image)
        .or_fail("the virtual machine does not run", "run it again, or see target/vm")?;
    let outcome = Outcome::read(&console.text, console.taken);
    for failed in outcome.failures() {
        eprintln!("failed on {}: {failed}", fetched.release);
    }
    if !outcome.is_complete() {
        eprintln!("error: Linux {} did not get to the end", fetched.release);
        eprintln!("  why: {}", console.ending);
        eprintln!("   do: see {}; its last lines:", console.log.display());
        for line in console.tail() {
            eprintln!("       {line}");
        }
    }
    progress::say(&format!(
        "Linux {}: {} in {} s; console: {}",
        fetched.release,
        outcome.sum(),
        console.taken.as_secs(),
        console.log.display()
    ));
    Ok(outcome)
}
