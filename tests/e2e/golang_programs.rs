//! Real servers, stripped, as Debian ships them: `outlive` says of them what they say of themselves, and they go on working.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use outlive_tests::capture::Capture;
use outlive_tests::code;
use outlive_tests::golang::claims::{
    assert_claims, goroutine_counts, objects_by_stack, sampled_number, snapshot,
};
use outlive_tests::golang::endpoint::around;
use outlive_tests::golang::goroutines::{GoroutineCounts, count};
use outlive_tests::golang::server::{RunningServer, Server, System};
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::patience::{PATIENCE, await_condition};
use outlive_tests::stopped::Stopped;

/// How much a server is made to allocate while it is traced, by its own count.
const ALLOCATED_BYTES: u64 = 4 << 20;
/// How often it is asked before it is asked how much that was.
const REQUESTS: usize = 50;

#[test]
fn prometheus() {
    is_as_it_says_itself(Server::Prometheus);
}

#[test]
fn etcd() {
    is_as_it_says_itself(Server::Etcd);
}

#[test]
fn caddy() {
    is_as_it_says_itself(Server::Caddy);
}

#[test]
fn nats_server() {
    is_as_it_says_itself(Server::NatsServer);
}

#[test]
fn syncthing() {
    is_as_it_says_itself(Server::Syncthing);
}

fn is_as_it_says_itself(server: Server) {
    for system in System::all() {
        let what = format!("{server:?} of {}", system.release);
        let running = server.start(&system);
        assert_heap(&running, &what);
        assert_goroutines(&running, &what);
        assert_followed(&running, &what);
        assert_heap(&running, &format!("{what}, after it was traced"));
        code::assert_unchanged(running.pid());
        running.end();
    }
}

/// Each record of its profile, to the byte.
fn assert_heap(server: &RunningServer, what: &str) {
    allocate(server, what);
    // Some work at all times: a look counts when the profile was the same before and after.
    let look = || snapshot(server.pid()).with_status(0).report();
    let (own, report) = server.endpoint.heap_around(look);
    assert!(own.records.len() >= 5, "{what}: {} records prove little", own.records.len());
    assert_claims(&report, &own, what);
}

/// Puts it to work, until samples that its runtime took say that it allocated much.
fn allocate(server: &RunningServer, what: &str) {
    let allocated = || {
        server.endpoint.collect();
        server.endpoint.heap().total().allocated_bytes
    };
    let before = allocated();
    let work = || {
        (0..REQUESTS).for_each(|_| server.serve());
        (allocated() >= before + ALLOCATED_BYTES).then_some(())
    };
    assert!(await_condition(PATIENCE, work).is_some(), "{what} allocates nothing");
}

/// Those that serve the question come and go with it.
fn assert_goroutines(server: &RunningServer, what: &str) {
    let without_serving = |mut counts: GoroutineCounts| {
        let is_serving = |function: &str| {
            function == "net/http.(*Server).Serve"
                || function == "net/http.(*connReader).startBackgroundRead"
        };
        counts.retain(|(creator, _), _| !creator.as_ref().is_some_and(|c| is_serving(&c.function)));
        counts
    };
    // The one that accepts connections may have just accepted that of the question: then it is asked again.
    let mut last = None;
    let agree = || {
        let own = || without_serving(count(server.endpoint.goroutines()));
        let (own, said) = around(own, || without_serving(goroutine_counts(server.pid())));
        assert!(own.values().sum::<u64>() > 5, "{what}: {own:?}");
        let agree = own == said;
        last = Some((own, said));
        agree.then_some(())
    };
    let agreed = await_condition(PATIENCE, agree);
    assert!(agreed.is_some(), "{what}: its own goroutines, what the report says: {last:#?}");
}

/// What is followed under load is, at the stop, what the runtime holds.
fn assert_followed(server: &RunningServer, what: &str) {
    let outlive = Outlive::attach(&[server.pid()], &["--top", "0", "--raw"]);
    allocate(server, what);
    let stopped = Stopped::new(server.pid());
    let followed = outlive.stop().with_status(0).report();
    let read = snapshot(server.pid()).with_status(0).report();
    drop(stopped);
    followed.assert_no_loss();
    let is_new = followed.sites().iter().any(|site| site.number("allocated_count") > 0);
    assert!(is_new, "{what}: nothing was allocated; {followed}");
    let is_inherited = |site: &_| sampled_number(site, "inherited_count") > 0;
    assert!(followed.sites().iter().any(is_inherited), "{what}: nothing was there; {followed}");
    assert_eq!(
        objects_by_stack(&followed),
        objects_by_stack(&read),
        "{what}: followed (left), read (right)"
    );
    server.serve();
}

/// Nothing in restic reads the profile, so that the linker turned the profiler off.
#[test]
fn restic_whose_profiler_is_off_is_walked_and_followed_when_asked() {
    for system in System::all() {
        let folder = system.folder();
        let repository = format!("{}/repository", folder.inside);
        let restic = |words: &[&str]| {
            let mut command = system.command("restic", &folder);
            command.args(["--repo", &repository, "--no-cache"]).args(words);
            command.env("RESTIC_PASSWORD", "none");
            command
        };
        assert!(restic(&["init"]).stdout(Stdio::null()).status().expect("it runs").success());
        let mut backup = restic(&["backup", "--stdin", "--json"]);
        let mut backup =
            backup.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("restic starts");
        let said = Capture::of(backup.stdout.take().expect("stdout is a pipe"));
        let mut input = backup.stdin.take().expect("stdin is a pipe");
        let pid = backup.id();
        // Once it reads, it is the program, and its runtime runs.
        let mut original = noise();
        input.write_all(&original).expect("it reads");
        let walked = || {
            let ended =
                finished(&mut command(["snapshot", &pid.to_string(), "-f", "json", "-n", "0"]));
            ended.status.success().then(|| ended.report())
        };
        let walked = await_condition(PATIENCE, walked).expect("its heap is walked");
        assert_eq!(walked.text("/sampling/mode"), "heap-walk", "{walked}");
        let live: u64 = walked.sites().iter().map(|site| site.number("live_bytes")).sum();
        assert!(live > 1 << 20 && live == walked.number("/totals/live_bytes"), "{walked}");
        let outlive = Outlive::attach(&[pid], &["--enable-go-profiling=4096", "--top", "0"]);
        for _ in 0..8 {
            let more = noise();
            input.write_all(&more).expect("it reads");
            original.extend(more);
        }
        drop(input);
        let status = backup.wait().expect("it ends");
        let said = said.await_end(PATIENCE).expect("its output ends");
        assert!(status.success(), "{status}: {said}");
        let report = outlive.finish().with_status(0).report();
        assert!(report.totals().allocated_count > 0, "{report}");
        let stored = restic(&["dump", "latest", "stdin"]).output().expect("restic runs");
        assert!(stored.status.success(), "{}", String::from_utf8_lossy(&stored.stderr));
        assert!(
            stored.stdout == original,
            "{}: what it stored is not what it was given",
            system.release
        );
    }
}

/// What does not compress, so that all of it is stored: some MiB.
fn noise() -> Vec<u8> {
    let mut bytes = vec![0; 4 << 20];
    let mut random = std::fs::File::open("/dev/urandom").expect("the kernel has random bytes");
    random.read_exact(&mut bytes).expect("read");
    bytes
}
