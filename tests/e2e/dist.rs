//! What `cargo xtask dist` gives to users: installed and run where there is nothing else of this host.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use outlive_tests::compiler::{Build, build, target_folder};
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::root_directory::RootDirectory;
use outlive_tests::workload::Workload;
use serde_json::{Value, json};

/// The only artefact with this ending.
fn artefact(ending: &str) -> PathBuf {
    let folder = target_folder().join("dist");
    let files = fs::read_dir(&folder).expect("run `cargo xtask test dist`").flatten();
    let named =
        files.map(|file| file.path()).filter(|path| path.to_string_lossy().ends_with(ending));
    let named: Vec<PathBuf> = named.collect();
    assert_eq!(named.len(), 1, "artefacts that end with {ending} in {}", folder.display());
    named[0].canonicalize().expect("its path")
}

fn version() -> String {
    format!("outlive {}\n", env!("CARGO_PKG_VERSION"))
}

/// Has the command trace a process of the host, whose numbers are known; `--format json attach PID` is appended.
fn assert_traces_exactly(command: &mut Command) {
    let workload =
        Workload::start(&build("c/accounting.c", Build::Debug), &["realloc_moves_and_stays"]);
    let pid = workload.pid();
    let outlive = Outlive::start(
        command.args(["attach", "--exact", "--format", "json"]).arg(pid.to_string()),
    );
    assert_exact(workload, outlive);
}

/// Insists that outlive says of a process what it says itself.
fn assert_exact(mut workload: Workload, outlive: Outlive) {
    outlive.await_tracing(workload.pid());
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    report.assert_exact(own);
    workload.exit();
}

#[test]
fn the_binary_runs_where_there_is_nothing_else() {
    let root = RootDirectory::empty();
    root.take(&artefact("/outlive"), "/outlive");
    assert_eq!(root.output("/outlive", ["--version"]), version());
    assert_traces_exactly(&mut root.command::<&str>("/outlive", []));
}

fn installed() -> RootDirectory {
    let root = RootDirectory::with_packages("dist/system");
    // An empty list of packages: those of the root are only unpacked.
    fs::write(root.outside("/var/lib/dpkg/status"), "").expect("a list of packages");
    root.take(&artefact(".deb"), "/tmp/outlive.deb");
    root.output("dpkg", ["--install", "/tmp/outlive.deb"]);
    root
}

#[test]
fn the_package_installs_runs_and_goes_without_a_trace() {
    let root = installed();
    let status = root.output(
        "dpkg-query",
        ["--show", "--showformat", "${Status} ${Version} ${Architecture}", "outlive"],
    );
    assert_eq!(status, format!("install ok installed {} amd64", env!("CARGO_PKG_VERSION")));
    assert_eq!(root.output("outlive", ["--version"]), version());
    assert_traces_exactly(&mut root.command::<&str>("outlive", []));
    let files = root.output("dpkg", ["--listfiles", "outlive"]);
    let files: Vec<PathBuf> =
        files.lines().map(|path| root.outside(path)).filter(|path| path.is_file()).collect();
    for wanted in
        ["usr/bin/outlive", "usr/share/doc/outlive/copyright", "usr/share/doc/outlive/docs/go.md"]
    {
        assert!(files.contains(&root.outside(wanted)), "{wanted} is not among {files:?}");
    }
    root.output("dpkg", ["--purge", "outlive"]);
    let left: Vec<_> = files.iter().filter(|path| path.exists()).collect();
    assert!(left.is_empty(), "{left:?} outlive the package");
}

#[test]
fn a_program_run_by_the_installed_package_is_traced_from_its_start() {
    let root = installed();
    root.take(&build("c/accounting.c", Build::Debug), "/usr/bin/accounting");
    let mut outlive = Outlive::start(&mut root.command(
        "outlive",
        [
            "run",
            "--format",
            "json",
            "--output",
            "/tmp/report.json",
            "--",
            "accounting",
            "realloc_moves_and_stays",
        ],
    ));
    outlive.talk.hear_word("ready");
    let own = outlive.talk.go();
    outlive.talk.say("exit");
    let finished = outlive.finish().with_status(0);
    let text = fs::read_to_string(root.outside("/tmp/report.json")).expect("a report");
    finished.reports_in(&text).pop().expect("a report").assert_exact(own);
}

/// The commands that `outlive --help` lists.
fn commands(help: &str) -> Vec<&str> {
    let list = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    let lines = list.expect("a list of commands").lines();
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<&str> = names.filter(|name| !name.is_empty() && *name != "help").collect();
    assert!(names.contains(&"attach") && names.contains(&"man"), "{names:?}");
    names
}

#[test]
fn man_help_and_shells_know_every_command() {
    let root = installed();
    let help = root.output("outlive", ["--help"]);
    assert_man_shows_pages(&root, &help);
    assert_help_has_examples(&root, &help);
    assert_shells_complete(&root, &help);
}

fn assert_man_shows_pages(root: &RootDirectory, help: &str) {
    for command in commands(help) {
        let page = format!("outlive-{command}");
        let shown = root.finished("man", ["--warnings", "1", &page]).with_status(0);
        assert_eq!(shown.stderr, "", "{page}");
        for part in ["NAME", "SYNOPSIS", "OPTIONS", "Example"] {
            assert!(shown.stdout.contains(part), "{page} has no {part}:\n{}", shown.stdout);
        }
    }
    let shown = root.output("man", ["1", "outlive"]);
    assert!(shown.contains("outlive-attach(1)"), "{shown}");
}

fn assert_help_has_examples(root: &RootDirectory, help: &str) {
    for command in commands(help) {
        let shown = root.output("outlive", [command, "--help"]);
        let examples = shown.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
        let of_command = format!("outlive {command}");
        let examples: Vec<&str> = examples.filter(|line| line.contains(&of_command)).collect();
        assert!(!examples.is_empty(), "`outlive {command} --help` has no example:\n{shown}");
    }
}

fn assert_shells_complete(root: &RootDirectory, help: &str) {
    let bash = ". /usr/share/bash-completion/completions/outlive
        COMP_WORDS=(outlive ''); COMP_CWORD=1; _outlive outlive '' outlive; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let by_bash = root.output("bash", ["-ec", bash]);
    let by_fish = root.output("fish", ["-c", "complete --do-complete 'outlive '"]);
    let zsh = "autoload -Uz compinit; compinit -D -u; print -r -- $_comps[outlive]; cat ${^fpath}/_outlive(N)";
    let by_zsh = root.output("zsh", ["-ec", zsh]);
    assert!(by_zsh.starts_with("_outlive\n"), "zsh does not know the completions:\n{by_zsh}");
    root.output("zsh", ["-n", "/usr/share/zsh/vendor-completions/_outlive"]);
    for command in commands(help) {
        assert!(by_bash.lines().any(|word| word == command), "bash, {command}:\n{by_bash}");
        assert!(
            by_fish.lines().any(|line| line.split('\t').next() == Some(command)),
            "fish, {command}:\n{by_fish}"
        );
        assert!(by_zsh.contains(&format!("\n'{command}:")), "zsh, {command}:\n{by_zsh}");
    }
}

/// A module for names of hosts that was made for another release of the C library would kill a static program that loads it.
#[test]
fn names_of_servers_are_looked_up_without_the_systems_modules() {
    let root = installed();
    fs::write(root.outside("/etc/nsswitch.conf"), "hosts: files myhostname dns\n")
        .expect("written");
    let mut workload = Workload::start(&build("c/leak.c", Build::Stripped), &["malloc", "10"]);
    let mut attach = root.command("outlive", ["attach", "--exact", "--format", "json"]);
    attach.arg(workload.pid().to_string()).env("DEBUGINFOD_URLS", "http://debuginfod.invalid:8002");
    let outlive = Outlive::start(&mut attach);
    outlive.await_tracing(workload.pid());
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    report.assert_exact(own);
    let asked = |notice: &&str| notice.contains("debuginfod gave no debug information");
    assert!(report.notices().iter().any(asked), "the server was not looked up; {report}");
    workload.exit();
}

/// What a `DaemonSet` gives its container to trace with.
const CAPABILITIES: [&str; 3] = ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"];

/// The image unpacked by umoci, which checks its digests, as a bundle that runc runs.
fn bundle() -> RootDirectory {
    let root = RootDirectory::with_packages("dist/containers");
    root.take(&artefact("-oci.tar"), "/tmp/image.tar");
    let archive = "oci-archive:/tmp/image.tar";
    root.output("skopeo", ["--insecure-policy", "copy", archive, "oci:/tmp/layout:image"]);
    root.output("umoci", ["unpack", "--image", "/tmp/layout:image", "/tmp/bundle"]);
    root
}

/// Turns umoci's configuration into that of a container which sees the host's processes, and is allowed to trace them.
fn as_daemon_set(configuration: &mut Value, arguments: &[&str]) {
    let entry_point = configuration["process"]["args"][0].clone();
    let arguments = arguments.iter().map(|word| json!(word));
    configuration["process"]["args"] = std::iter::once(entry_point).chain(arguments).collect();
    configuration["process"]["terminal"] = json!(false);
    configuration["root"]["readonly"] = json!(true);
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        configuration["process"]["capabilities"][set] = json!(CAPABILITIES);
    }
    let namespaces = configuration["linux"]["namespaces"].as_array_mut().expect("namespaces");
    namespaces.retain(|namespace| namespace["type"] != "pid" && namespace["type"] != "cgroup");
    configuration["linux"]["maskedPaths"] = json!([]);
    configuration["linux"]["readonlyPaths"] = json!([]);
    let mounts = configuration["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| {
        !mount["destination"].as_str().is_some_and(|place| place.starts_with("/sys"))
    });
    mounts.push(json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"] }));
}

#[test]
fn the_image_traces_a_process_of_the_host_as_a_daemon_set_would() {
    let root = bundle();
    let path = root.outside("/tmp/bundle/config.json");
    let text = fs::read_to_string(&path).expect("umoci's configuration");
    let configured = |arguments: &[&str]| {
        let mut configuration: Value = serde_json::from_str(&text).expect("JSON");
        as_daemon_set(&mut configuration, arguments);
        fs::write(&path, configuration.to_string()).expect("written");
    };
    configured(&["--version"]);
    let run = ["run", "--bundle", "/tmp/bundle", "outlive-of-a-test"];
    assert_eq!(root.output("runc", run), version());
    let workload =
        Workload::start(&build("c/accounting.c", Build::Debug), &["realloc_moves_and_stays"]);
    let pid = workload.pid();
    configured(&["attach", "--exact", "--format", "json", &pid.to_string()]);
    let outlive = Outlive::start(&mut root.command("runc", run));
    assert_exact(workload, outlive);
}

#[test]
fn the_image_says_what_it_is() {
    let root = bundle();
    let text =
        root.output("skopeo", ["--insecure-policy", "inspect", "oci-archive:/tmp/image.tar"]);
    let image: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(image["Architecture"], "amd64", "{text}");
    assert_eq!(
        image["Labels"]["org.opencontainers.image.version"],
        env!("CARGO_PKG_VERSION"),
        "{text}"
    );
    assert_eq!(image["Layers"].as_array().map(Vec::len), Some(1), "{text}");
}

#[test]
fn a_shell_completes_and_man_shows() {
    let run = |words: &[&str]| finished(&mut command(words)).with_status(0).stdout;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = folder.path().join("outlive.bash");
    fs::write(&script, run(&["completions", "bash"])).expect("a file");
    let asked = "source \"$0\"; COMP_WORDS=(outlive sn); COMP_CWORD=1; _outlive outlive sn outlive; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", asked]).arg(&script).output().expect("bash runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "snapshot");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(run(&["completions", shell]).contains("snapshot"), "{shell}");
    }
    let page = run(&["man"]);
    assert!(page.contains(".TH outlive 1") && page.contains("goroutines"), "{page}");
    assert!(run(&["man", "diff"]).contains("fail\\-above"));
    let [_, why, _] = finished(&mut command(["man", "dance"])).error(2);
    assert!(why.contains("dance"), "{why}");
}
