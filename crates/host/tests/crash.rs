//! Daemons that are killed, and what is left of their settings.
//!
//! A test starts its own program again as a daemon, and that does so as a guard: the first line of
//! each test plays the role that the command line names.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on has failed"
)]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use kdev_host::device::{Device, DeviceConfig};
use kdev_host::resolver::{ResolvConf, ResolverGuard, Restored, recover, run_guard};
use kdev_host::routes::{DesiredRoutes, Routes};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getsid};
use support::machine::Machine;
use support::{DEADLINE, in_namespace, ip};

const ORIGINAL: &str = "nameserver 10.0.0.1\nsearch corp.example\n";

#[test]
fn a_killed_daemon_leaves_nothing() {
    play_role();
    in_namespace(async || {
        let machine = machine();
        let mut daemon = start(&machine, "a_killed_daemon_leaves_nothing");
        assert!(ip("-o link show").contains("kdev0"));
        assert!(ip("route show proto 107").contains("10.96.0.0/12"));
        assert!(machine.text().contains("nameserver 10.77.0.1"));

        daemon.kill();
        assert!(!ip("-o link show").contains("kdev0"));
        assert_eq!(ip("route show proto 107"), "");
        daemon.guard_ends();
        assert_eq!(machine.text(), ORIGINAL);
        assert!(!journal(&machine).exists());
    });
}

#[test]
fn a_killed_daemon_leaves_a_link_as_it_was() {
    play_role();
    in_namespace(async || {
        let machine = machine();
        fs::rename(machine.path(), machine.etc().join("managed")).unwrap();
        symlink("managed", machine.path()).unwrap();
        let mut daemon = start(&machine, "a_killed_daemon_leaves_a_link_as_it_was");
        assert!(!machine.path().is_symlink());
        daemon.kill();
        daemon.guard_ends();
        assert_eq!(fs::read_link(machine.path()).unwrap(), Path::new("managed"));
    });
}

#[test]
fn without_its_guard_the_next_start_undoes_it() {
    play_role();
    in_namespace(async || {
        let machine = machine();
        let mut daemon = start(&machine, "without_its_guard_the_next_start_undoes_it");
        kill(daemon.guard, Signal::SIGKILL).unwrap();
        daemon.kill();
        daemon.guard_ends();
        assert!(
            machine.text().contains("nameserver 10.77.0.1"),
            "nobody could undo it"
        );
        assert_eq!(recover(&machine.state()).unwrap(), Restored::Done);
        assert_eq!(machine.text(), ORIGINAL);
    });
}

#[test]
fn a_late_guard_leaves_the_next_daemon_s_settings_alone() {
    play_role();
    in_namespace(async || {
        let machine = machine();
        let mut daemon = start(
            &machine,
            "a_late_guard_leaves_the_next_daemon_s_settings_alone",
        );
        daemon.stop_guard();
        daemon.kill();

        assert_eq!(recover(&machine.state()).unwrap(), Restored::Done);
        let mut next = machine.settings();
        next.apply("10.77.0.1".parse().unwrap()).unwrap();
        kill(daemon.guard, Signal::SIGCONT).unwrap();
        daemon.guard_ends();
        assert!(machine.text().contains("nameserver 10.77.0.1"));
        assert_eq!(next.restore().unwrap(), Restored::Done);
        assert_eq!(machine.text(), ORIGINAL);
    });
}

#[test]
fn a_daemon_that_ends_by_itself_takes_its_guard_along() {
    play_role();
    in_namespace(async || {
        let machine = machine();
        let mut daemon = start(
            &machine,
            "a_daemon_that_ends_by_itself_takes_its_guard_along",
        );
        drop(daemon.process.stdin.take());
        assert!(daemon.process.wait().unwrap().success());
        assert!(kill(daemon.guard, None).is_err(), "it was waited for");
        assert_eq!(machine.text(), ORIGINAL);
        assert!(!journal(&machine).exists());
    });
}

#[test]
fn a_guard_is_out_of_reach_of_terminals_and_pipes() {
    play_role();
    in_namespace(async || {
        let machine = machine();
        let mut daemon = start(&machine, "a_guard_is_out_of_reach_of_terminals_and_pipes");
        assert_eq!(
            getsid(Some(daemon.guard)).unwrap(),
            daemon.guard,
            "a session of its own"
        );
        for descriptor in ["1", "2"] {
            let link = format!("/proc/{}/fd/{descriptor}", daemon.guard);
            assert_eq!(fs::read_link(link).unwrap(), Path::new("/dev/null"));
        }
        let output = fs::read_link(format!("/proc/{}/fd/1", daemon.process.id())).unwrap();
        for entry in fs::read_dir(format!("/proc/{}/fd", daemon.guard)).unwrap() {
            let open = fs::read_link(entry.unwrap().path()).unwrap();
            assert_ne!(
                open, output,
                "whoever reads the daemon's output would wait for the guard"
            );
            assert_ne!(
                open,
                Path::new("/dev/net/tun"),
                "the device would outlive the daemon"
            );
        }
        for signal in [
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGTERM,
            Signal::SIGQUIT,
        ] {
            kill(daemon.guard, signal).unwrap();
        }
        daemon.kill();
        daemon.guard_ends();
        assert_eq!(machine.text(), ORIGINAL, "the guard was there");
    });
}

#[test]
fn a_guard_that_has_died_is_noticed() {
    play_role();
    let program = std::env::current_exe().unwrap();
    let machine = machine();
    let role = role("guard", machine.dir.path());
    let args = ["--exact", "a_guard_that_has_died_is_noticed", &role].map(OsStr::new);
    let mut guard = ResolverGuard::spawn(&program, &args).unwrap();
    assert!(guard.is_running());
    let pid = Pid::from_raw(guard.id() as i32);
    let descriptor = pidfd(pid);
    kill(pid, Signal::SIGKILL).unwrap();
    wait_for_end(&descriptor);
    assert!(!guard.is_running());
}

fn machine() -> Machine {
    // Guards of killed daemons become children of this process, so that they can be waited for.
    set_child_subreaper(true).unwrap();
    Machine::with_file(ORIGINAL)
}

fn role(name: &str, machine: &Path) -> String {
    format!("role={name}={}", machine.display())
}

/// Starts a daemon in this thread's namespaces and waits until its settings are made.
fn start(machine: &Machine, test: &str) -> Daemon {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, &role("daemon", machine.dir.path())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let guard = BufReader::new(process.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("guard ").map(str::to_owned))
        .expect("the daemon has died");
    let guard = Pid::from_raw(guard.parse().unwrap());
    Daemon {
        process,
        guard,
        guard_end: pidfd(guard),
    }
}

fn journal(machine: &Machine) -> PathBuf {
    machine.state().join("resolv.conf.json")
}

struct Daemon {
    process: Child,
    guard: Pid,
    guard_end: OwnedFd,
}

impl Daemon {
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Stops the guard and waits until none of its threads runs: a signal takes effect later than
    /// it is sent, and the guard must not come as far as to take the journal's lock.
    fn stop_guard(&self) {
        kill(self.guard, Signal::SIGSTOP).unwrap();
        let deadline = Instant::now() + DEADLINE;
        let stands = |thread: fs::DirEntry| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap();
            // The state follows the name, which is in parentheses (proc_pid_stat(5)).
            stat.rsplit(") ").next().unwrap().starts_with('T')
        };
        let threads = || fs::read_dir(format!("/proc/{}/task", self.guard)).unwrap();
        while !threads().map(Result::unwrap).all(stands) {
            assert!(Instant::now() < deadline, "it doesn't stop");
            std::thread::yield_now();
        }
    }

    fn guard_ends(&self) {
        wait_for_end(&self.guard_end);
        waitpid(self.guard, None).unwrap();
    }
}

/// What tells the end of a process that is no child.
fn pidfd(pid: Pid) -> OwnedFd {
    // SAFETY: pidfd_open(2) takes plain numbers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    assert!(descriptor >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor was just opened and is nobody else's.
    unsafe { OwnedFd::from_raw_fd(descriptor as i32) }
}

fn wait_for_end(process: &OwnedFd) {
    let mut wait = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(DEADLINE).unwrap();
    assert_eq!(poll(&mut wait, timeout).unwrap(), 1, "it doesn't end");
}

/// Does what the command line says and doesn't return, when it names a role.
fn play_role() {
    let role = std::env::args().find_map(|arg| arg.strip_prefix("role=").map(str::to_owned));
    let Some(role) = role else { return };
    let (name, dir) = role.split_once('=').unwrap();
    let dir = Path::new(dir);
    match name {
        "daemon" => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(be_daemon(dir));
        }
        "guard" => {
            run_guard(&dir.join("state")).unwrap();
        }
        other => panic!("no such role: {other}"),
    }
    std::process::exit(0);
}

/// Makes all settings, and undoes them when standard input ends.
async fn be_daemon(dir: &Path) {
    let addresses = vec!["10.77.0.1/24".parse().unwrap()];
    let config = DeviceConfig {
        addresses,
        ..DeviceConfig::default()
    };
    let device = Device::open(&config).await.unwrap();
    let mut routes = Routes::new(&device).unwrap();
    let prefixes = vec!["10.96.0.0/12".parse().unwrap()];
    routes
        .apply(&DesiredRoutes {
            prefixes,
            exempt: Vec::new(),
        })
        .await
        .unwrap();
    let program = std::env::current_exe().unwrap();
    let test = std::env::args().nth(2).unwrap();
    let role = role("guard", dir);
    let args = ["--exact", &test, &role].map(OsStr::new);
    let guard = ResolverGuard::spawn(&program, &args).unwrap();
    let mut settings = ResolvConf::new(dir.join("etc/resolv.conf"), dir.join("state"));
    settings.apply("10.77.0.1".parse().unwrap()).unwrap();
    // Past the test harness, which keeps what is printed.
    let mut output = std::io::stdout();
    output
        .write_all(format!("\nguard {}\n", guard.id()).as_bytes())
        .unwrap();
    output.flush().unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    settings.restore().unwrap();
    drop(guard);
}
