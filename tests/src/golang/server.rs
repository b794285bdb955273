//! Servers written in Go, as Debian ships them, each in a root directory and a mount namespace of its own, as in a container.
//!
//! In: the packages that `cargo xtask test golang_programs` unpacked. Out: running programs on loopback that serve their own profiles.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::endpoint::Endpoint;
use crate::capture::Capture;
use crate::compiler::target_folder;
use crate::debug_server::free_port;
use crate::patience::{PATIENCE, await_condition};

/// Enters the root directory, where the host's devices and processes are seen.
const ENTER: &str =
    "mount --rbind /dev \"$0/dev\" && mount --rbind /proc \"$0/proc\" && exec chroot \"$0\" \"$@\"";
/// The runtime samples so many that most call sites are seen; that of Go 1.19 forgets it as soon as its variables are initialised.
const MANY_SAMPLES: &str = "memprofilerate=4096";

/// A root directory with a release of Debian's packages.
pub struct System {
    /// The release: `bookworm`.
    pub release: &'static str,
    root: PathBuf,
}

impl System {
    /// All that were fetched.
    pub fn all() -> [Self; 2] {
        ["bookworm", "trixie"].map(|release| {
            let root = target_folder().join("tools/golang_programs").join(release).join("root");
            let root = root.canonicalize().unwrap_or_else(|error| {
                panic!("{}: {error}; run `cargo xtask test golang_programs`", root.display())
            });
            Self { release, root }
        })
    }

    /// An empty directory in it, gone when dropped.
    pub fn folder(&self) -> Folder {
        let temporary = self.root.join("tmp");
        fs::create_dir_all(&temporary).unwrap();
        let outside = tempfile::tempdir_in(temporary).unwrap();
        let inside = Path::new("/").join(outside.path().strip_prefix(&self.root).unwrap());
        Folder { outside, inside: inside.to_str().unwrap().to_owned() }
    }

    /// A command that becomes a program of it, named without its directory, whose home is the folder.
    pub fn command(&self, program: &str, home: &Folder) -> Command {
        let places = ["/usr/bin", "/usr/sbin"].map(|place| format!("{place}/{program}"));
        let path = places.iter().find(|path| self.root.join(&path[1..]).exists());
        let path = path.unwrap_or_else(|| panic!("no package of {} has {program}", self.release));
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", ENTER]);
        command.arg(&self.root).arg(path);
        for name in ["GODEBUG", "GOGC", "GOMEMLIMIT", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
            command.env_remove(name);
        }
        command.env("HOME", &home.inside).stdin(Stdio::null());
        command
    }
}

/// A directory, by its two names.
pub struct Folder {
    outside: TempDir,
    /// As programs of the system see it.
    pub inside: String,
}

impl Folder {
    /// As the test sees it.
    pub fn outside(&self) -> &Path {
        self.outside.path()
    }
}

/// A server that has the profiler, and can be told to serve what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the programs' own names")]
pub enum Server {
    Prometheus,
    Etcd,
    Caddy,
    NatsServer,
    Syncthing,
}

/// How one is started.
struct Setup {
    program: &'static str,
    arguments: Vec<String>,
    /// Where it serves its profiles.
    profiles: u16,
    /// What it is asked to put it to work.
    page: String,
}

impl Server {
    /// Starts it, and awaits that it serves profiles and its page.
    pub fn start(self, system: &System) -> RunningServer {
        let folder = system.folder();
        let setup = self.setup(&folder);
        let mut command = system.command(setup.program, &folder);
        // It collects seldom but when told to, so that its profile does not change with each look at it.
        command.env("GODEBUG", MANY_SAMPLES).env("GOGC", "1000").args(&setup.arguments);
        // Syncthing is else its own watchdog, in a second process.
        command.env("STMONITORED", "yes");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let said = [
            Capture::of(child.stdout.take().expect("stdout is a pipe")),
            Capture::of(child.stderr.take().expect("stderr is a pipe")),
        ];
        let endpoint = Endpoint::new(setup.profiles);
        let mut server =
            RunningServer { name: setup.program, child, said, endpoint, page: setup.page, folder };
        let is_ready = || (server.endpoint.answers() && server.try_serve()).then_some(());
        let ready = await_condition(PATIENCE, is_ready);
        assert!(ready.is_some() && server.is_running(), "{server} does not serve");
        server
    }

    fn setup(self, folder: &Folder) -> Setup {
        let inside = folder.inside.as_str();
        let write = |name: &str, text: &str| {
            fs::write(folder.outside().join(name), text).unwrap();
            format!("{inside}/{name}")
        };
        let (port, other, third) = (free_port(), free_port(), free_port());
        let page = |port: u16, path: &str| format!("http://127.0.0.1:{port}{path}");
        let (program, arguments, profiles, page) = match self {
            Self::Prometheus => {
                let config = write("prometheus.yml", "global:\n  scrape_interval: 1h\n");
                let line = format!(
                    "--config.file={config} --storage.tsdb.path={inside}/data --web.listen-address=127.0.0.1:{port}"
                );
                ("prometheus", line, port, page(port, "/metrics"))
            }
            Self::Etcd => {
                let peers = page(other, "");
                let line = format!(
                    "--data-dir={inside}/data --enable-pprof --listen-client-urls={url} --advertise-client-urls={url} \
                     --listen-peer-urls={peers} --initial-advertise-peer-urls={peers} --initial-cluster=default={peers}",
                    url = page(port, ""),
                );
                ("etcd", line, port, page(port, "/metrics"))
            }
            Self::Caddy => {
                let config = write(
                    "Caddyfile",
                    &format!(
                        "{{\n admin 127.0.0.1:{port}\n auto_https off\n}}\nhttp://127.0.0.1:{other} {{\n templates\n \
                         respond \"{{{{now}}}}\"\n}}\n"
                    ),
                );
                let line = format!("run --config {config} --adapter caddyfile");
                ("caddy", line, port, page(other, "/"))
            }
            Self::NatsServer => {
                let line = format!("-a 127.0.0.1 -p {third} -m {other} --profile {port}");
                ("nats-server", line, port, page(other, "/varz"))
            }
            Self::Syncthing => {
                write("config.xml", &syncthing_config(other));
                let line = format!(
                    "serve --home={inside} --no-browser --no-default-folder --no-restart --no-upgrade \
                     --debug-profiler-listen=127.0.0.1:{port}"
                );
                ("syncthing", line, port, page(other, "/"))
            }
        };
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        Setup { program, arguments, profiles, page }
    }
}

/// It looks for nobody, and nobody finds it.
fn syncthing_config(port: u16) -> String {
    format!(
        "<configuration version=\"35\"><gui enabled=\"true\" tls=\"false\"><address>127.0.0.1:{port}</address></gui><options>\
         <listenAddress>tcp://127.0.0.1:0</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled>\
         <localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled>\
         <crashReportingEnabled>false</crashReportingEnabled><urAccepted>-1</urAccepted><autoUpgradeIntervalH>0</autoUpgradeIntervalH>\
         <startBrowser>false</startBrowser></options></configuration>"
    )
}

/// A running one; ended when dropped.
pub struct RunningServer {
    name: &'static str,
    child: Child,
    said: [Capture; 2],
    /// Where it serves its profiles.
    pub endpoint: Endpoint,
    page: String,
    folder: Folder,
}

impl RunningServer {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks it for its page, and insists on an answer.
    pub fn serve(&self) {
        assert!(self.try_serve(), "{self} does not serve {}", self.page);
    }

    fn try_serve(&self) -> bool {
        let read = ureq::get(&self.page).call().map(|answer| answer.into_body().read_to_vec());
        matches!(read, Ok(Ok(page)) if !page.is_empty())
    }

    /// Has it end, and insists that nothing in it broke.
    pub fn end(mut self) {
        assert!(self.is_running(), "{self} has ended");
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let status = await_condition(PATIENCE, || self.child.try_wait().unwrap());
        assert!(status.is_some(), "{self} does not end when told to");
        for said in &self.said {
            let said = said.await_end(PATIENCE).expect("its streams end with it");
            for trouble in ["fatal error:", "panic:", "SIGSEGV", "SIGTRAP"] {
                assert!(!said.contains(trouble), "{trouble} in what {} said:\n{said}", self.name);
            }
        }
    }
}

impl std::fmt::Display for RunningServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [output, errors] = &self.said;
        let home = self.folder.inside.as_str();
        write!(f, "{} in {home}, which said:\n{}\n{}\n", self.name, output.text(), errors.text())
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        // It may have ended already; either way nothing is left behind.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
