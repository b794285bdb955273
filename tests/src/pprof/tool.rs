//! `go tool pprof` of a release of Go that `cargo xtask test` fetched.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::capture::Capture;
use crate::golang::toolchains::chosen;
use crate::patience::{PATIENCE, await_condition};

/// The newest that comes compiled: since Go 1.25 it is compiled when it is first used, which takes a minute.
fn program() -> PathBuf {
    let program = chosen().into_iter().rev().find_map(|toolchain| {
        let program = toolchain.root().join("pkg/tool/linux_amd64/pprof");
        program.exists().then_some(program)
    });
    program.expect("a release of Go up to 1.24 is among those chosen")
}

fn command(arguments: &[&str], file: &Path) -> Command {
    let mut command = Command::new(program());
    // It keeps what it fetches, and its settings, at home.
    let home = file.parent().expect("a file is in a folder");
    command.env("HOME", home).env("PPROF_TMPDIR", home).args(arguments).arg(file);
    command
}

/// Runs it on a file; what it prints.
pub fn pprof(arguments: &[&str], file: &Path) -> String {
    let mut command = command(arguments, file);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{errors}");
    String::from_utf8(output.stdout).expect("pprof prints text")
}

/// The total that it shows of one value, in bytes or as a count.
pub fn total(sample_type: &str, further: &[&str], file: &Path) -> i64 {
    let index = format!("-sample_index={sample_type}");
    let mut arguments = vec!["-top", "-nodecount=0", &index];
    let is_bytes = sample_type.ends_with("_space");
    arguments.extend(is_bytes.then_some("-unit=B"));
    arguments.extend(further);
    let text = pprof(&arguments, file);
    let total = text.lines().find_map(|line| {
        let line = line.strip_prefix("Showing nodes accounting for ")?;
        let total = line.rsplit_once(" of ")?.1.strip_suffix(" total")?;
        total.trim_end_matches('B').parse().ok()
    });
    total.unwrap_or_else(|| panic!("pprof shows no total of {sample_type}:\n{text}"))
}

/// Its web server; ended when dropped.
pub struct WebServer {
    child: Child,
    address: String,
}

impl WebServer {
    /// Serves a file on a free port of this host.
    pub fn start(file: &Path) -> Self {
        let mut command = command(&["-http=127.0.0.1:", "-no_browser"], file);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let errors = Capture::of(child.stderr.take().expect("stderr is a pipe"));
        let said = errors.await_match(PATIENCE, |text| {
            let address = text.lines().find_map(|line| line.strip_prefix("Serving web UI on "))?;
            text.ends_with('\n').then(|| address.trim().to_owned())
        });
        let address = said.unwrap_or_else(|e| panic!("it serves nothing: {e:?} {}", errors.text()));
        // It says so a moment before it listens.
        let port = address.trim_start_matches("http://").to_owned();
        let listens = await_condition(PATIENCE, || TcpStream::connect(&port).ok());
        assert!(listens.is_some(), "nothing listens at {address}: {}", errors.text());
        Self { child, address }
    }

    /// Fetches a page.
    pub fn get(&self, page: &str) -> String {
        let address = format!("{}/ui/{page}", self.address);
        let answer = ureq::get(&address).call().unwrap_or_else(|e| panic!("{address}: {e}"));
        answer.into_body().read_to_string().unwrap_or_else(|e| panic!("{address}: {e}"))
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        // It serves until it is killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
