//! The developer's machine: a network and mount namespace on the cluster's LAN.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::Cluster;
use crate::command::{self, Outcome};
use crate::namespace::Network;
use crate::tools;
use crate::wait;

/// How long a command may take unless the test says otherwise.
pub const COMMAND: Duration = Duration::from_secs(60);
/// How long a process may take to end.
const END: Duration = Duration::from_secs(10);

/// Who sits at the laptop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The administrator of the machine.
    Root,
    /// A developer: may use sudo, has a kubeconfig.
    Dev,
    /// Somebody else, without either.
    Eve,
}

impl User {
    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Dev => "dev",
            Self::Eve => "eve",
        }
    }
}

/// A process of kdev's on the laptop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    /// The user's daemon.
    User,
    /// The root daemon.
    Root,
    /// The root daemon's child that puts the resolver's file back.
    Guard,
}

/// See the module.
#[derive(Debug)]
pub struct Laptop<'a> {
    cluster: &'a Cluster,
    network: Network,
}

impl<'a> Laptop<'a> {
    pub(crate) fn new(cluster: &'a Cluster, keeper: i32) -> Self {
        Self {
            cluster,
            network: Network::of(keeper).expect("the laptop is there"),
        }
    }

    /// Its network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Installs kdev's programs as the README says, and the test workload beside them.
    pub fn furnish(&self) {
        let programs = ["kdev", "kdev-userd", "kdev-rootd"].map(tools::program);
        let all = programs
            .into_iter()
            .chain([tools::cluster_program("workload")]);
        let all: Vec<String> = all.map(|path| path.display().to_string()).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let install = [&["install", "-m", "755"], &all[..], &["/usr/local/bin/"]].concat();
        self.run(User::Root, &install).ok();
    }

    /// Runs a command.
    #[track_caller]
    pub fn run(&self, user: User, args: &[&str]) -> Outcome {
        self.run_for(user, args, COMMAND)
    }

    /// Runs a command that may take so long.
    #[track_caller]
    pub fn run_for(&self, user: User, args: &[&str], deadline: Duration) -> Outcome {
        command::run(&mut self.command(user, args), deadline)
    }

    /// Runs a line of the shell's.
    #[track_caller]
    pub fn shell(&self, user: User, line: &str) -> Outcome {
        self.run(user, &["bash", "-c", line])
    }

    /// Starts a program that listens on `port` and answers as the test workload does, under the name
    /// `the-laptop`.
    #[track_caller]
    pub fn serve(&self, port: u16) -> Program {
        self.serve_as("the-laptop", port)
    }

    /// The same under another name.
    #[track_caller]
    pub fn serve_as(&self, name: &str, port: u16) -> Program {
        self.serve_what("--http", name, port)
    }

    /// Starts a program that listens on `port` and says what it is told.
    #[track_caller]
    pub fn echo(&self, port: u16) -> Program {
        self.serve_what("--echo", "the-laptop", port)
    }

    #[track_caller]
    fn serve_what(&self, what: &str, name: &str, port: u16) -> Program {
        let (name, port_text) = (format!("POD_NAME={name}"), port.to_string());
        let mut words = vec!["env", &name, "workload", "serve", what, &port_text];
        let all = ["--http", "--echo", "--udp-echo", "--sink"];
        words.extend(
            all.iter()
                .filter(|other| **other != what)
                .flat_map(|other| [*other, "0"]),
        );
        let mut command = self.command(User::Dev, &words);
        let child = command::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let program = Program(child);
        let address = ([127, 0, 0, 1], port).into();
        wait::until_true("the local program listens", END, || {
            self.network.connect(address, END).0.is_ok()
        });
        program
    }

    fn command(&self, user: User, args: &[&str]) -> Command {
        let mut command = Command::new(tools::cluster_program("kdev-cluster"));
        command
            .args(["lap", "--name", self.cluster.name(), "--as", user.name()])
            .args(args);
        command
            .env_remove("KUBECONFIG")
            .env_remove("KDEV_IMAGE")
            .current_dir("/");
        command
    }

    /// The process ids of daemons of one kind. They are the machine's, as processes have no namespace
    /// of their own here; others' daemons live in other networks.
    pub fn daemons(&self, wanted: Daemon) -> Vec<i32> {
        let all = self.all_daemons().into_iter();
        all.filter(|(daemon, _)| *daemon == wanted)
            .map(|(_, pid)| pid)
            .collect()
    }

    /// All daemons.
    pub fn all_daemons(&self) -> Vec<(Daemon, i32)> {
        let mut found: Vec<_> = fs::read_dir("/proc")
            .expect("/proc is there")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter_map(|pid| Some((daemon(pid)?, pid)))
            .filter(|(_, pid)| Network::of(*pid).is_ok_and(|net| net.id() == self.network.id()))
            .collect();
        found.sort_unstable();
        found
    }

    /// Kills the daemons of one kind as kill -9 does, and waits until they are gone.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn kill(&self, daemon: Daemon) {
        let pids = self.daemons(daemon);
        assert!(
            !pids.is_empty(),
            "no {daemon:?} runs: {:?}",
            self.all_daemons()
        );
        for pid in &pids {
            signal(*pid, Signal::SIGKILL);
        }
        wait::until_true("a killed daemon is gone", END, || {
            !self.daemons(daemon).iter().any(|pid| pids.contains(pid))
        });
    }

    /// Stops the daemons, as a machine's sleep does.
    pub fn suspend(&self) {
        self.signal_both(Signal::SIGSTOP);
    }

    /// Lets them go on.
    pub fn wake(&self) {
        self.signal_both(Signal::SIGCONT);
    }

    fn signal_both(&self, signalled: Signal) {
        for daemon in [Daemon::User, Daemon::Root] {
            for pid in self.daemons(daemon) {
                signal(pid, signalled);
            }
        }
    }

    /// Ends all daemons, in whatever state they are.
    pub(crate) fn end_daemons(&self) {
        for daemon in [Daemon::User, Daemon::Root, Daemon::Guard] {
            for signalled in [Signal::SIGTERM, Signal::SIGKILL] {
                for pid in self.daemons(daemon) {
                    signal(pid, signalled);
                }
                let gone = || self.daemons(daemon).is_empty().then_some(());
                if wait::within(Duration::from_secs(3), gone).is_some() {
                    break;
                }
            }
        }
    }
}

/// A process that has ended meanwhile needs no signal.
fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

fn daemon(pid: i32) -> Option<Daemon> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split('\0');
    let program = words.next()?.rsplit('/').next()?;
    match (program, words.next()) {
        ("kdev-userd", _) => Some(Daemon::User),
        ("kdev-guard", _) => Some(Daemon::Guard),
        ("kdev-rootd", _) => Some(Daemon::Root),
        _ => None,
    }
}

/// A program on the laptop that runs until this is dropped.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Ends it.
    pub fn end(&mut self) {
        let pid = i32::try_from(self.0.id()).expect("process ids are small");
        // The driver hands the signal on; killed itself, it couldn't.
        signal(pid, Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}
