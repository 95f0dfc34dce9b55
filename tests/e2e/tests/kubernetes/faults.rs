//! kill -9 of the user's daemon, of the manager, and of both, at every step of switching an intercept on and off:
//! the Service ends as it was, or as asked.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::chown;
use std::time::{Duration, Instant};

use kdev_common::fault::{FILE, Point, Process};
use kdev_e2e::command::Outcome;
use kdev_e2e::desk::Desk;
use kdev_e2e::http::{Requests, who_answers};
use kdev_e2e::kept::Kept;
use kdev_e2e::laptop::{COMMAND, Daemon, User};
use kdev_e2e::pod::PodPlace;
use kdev_e2e::wait;
use kdev_e2e::workload::{Namespace, Workload};

/// What the daemons look into, each in its own file system; the manager's pod has nothing else to write to.
const USERS: &str = "/home/dev/kdev-fault";
const MANAGERS: &str = "/dev/shm/kdev-fault";
/// The manager's user.
const NOBODY: u32 = 65532;
/// How long everything may take to be right again.
const RIGHT: Duration = Duration::from_secs(90);
/// How long a point may take to be passed.
const PASSED: Duration = Duration::from_secs(30);
/// The same where it may be left out.
const SOON: Duration = Duration::from_secs(3);
/// How long clients that no rule concerns may be without an answer when the manager dies.
const MISSED: Duration = Duration::from_secs(10);

/// When a point is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// While this is switched on.
    On(Mode),
    /// While this is switched off.
    Off(Mode),
    /// When the session of who has this stays away for too long.
    Expiry(Mode),
    /// When the manager is told to end.
    Rollout,
    /// When there is no manager.
    Unattended,
    /// While an intercept is taken over from an earlier session of the same user, which is gone.
    TakeOver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Intercept,
    Replace,
    Preview,
    Wiretap,
}

fn phases(point: Point) -> &'static [Phase] {
    use Mode::{Intercept, Preview, Replace, Wiretap};
    use Phase::{Expiry, Off, On, Rollout, TakeOver, Unattended};
    match point {
        Point::Claimed | Point::Redirected => &[On(Intercept), On(Wiretap), TakeOver],
        Point::ClaimSeen | Point::Joined => &[On(Intercept), TakeOver],
        Point::Checked
        | Point::Asked
        | Point::ReportedActive
        | Point::StartHeard
        | Point::SliceCreated
        | Point::MirroringStopped
        | Point::SelectorCleared
        | Point::Proven => &[On(Intercept)],
        Point::PreviewMade => &[On(Preview)],
        Point::ScaledDown => &[On(Replace)],
        Point::ScaledBack => &[Off(Replace)],
        Point::PreviewDeleted => &[Off(Preview)],
        Point::SliceUpdated => &[On(Intercept), Off(Intercept)],
        Point::Released => &[Off(Intercept), Off(Preview), Off(Wiretap)],
        Point::Left => &[Off(Intercept), Off(Wiretap)],
        Point::AskedToLeave
        | Point::RestoredSeen
        | Point::SelectorRestored
        | Point::SliceDeleted
        | Point::MirroringAllowed
        | Point::AnnotationDropped
        | Point::RestoredReported => &[Off(Intercept)],
        Point::PutBack | Point::SessionOver => &[Expiry(Replace)],
        Point::HandOver | Point::HandedOver => &[Rollout],
        Point::Unattended | Point::PutBackUnattended => &[Unattended],
    }
}

/// Whether others may have done the step first: the cluster's controller rewrites the labels of Endpoints.
fn may_be_left_out(point: Point) -> bool {
    point == Point::MirroringAllowed
}

#[test]
fn a_user_daemon_that_is_killed_at_any_step_leaves_a_service_as_it_was() {
    go_through(Process::User, false);
}

#[test]
fn a_manager_that_is_killed_at_any_step_leaves_a_service_as_it_was_or_as_asked() {
    go_through(Process::Manager, false);
}

#[test]
fn both_killed_at_any_step_leave_a_service_as_it_was() {
    go_through(Process::User, true);
    go_through(Process::Manager, true);
}

fn go_through(process: Process, both: bool) {
    let scene = Scene::set();
    for &point in Point::ALL {
        // One point, where only one is looked for.
        let wanted = std::env::var("KDEV_E2E_POINT").map_or(true, |name| name == point.name());
        if point.process() != process || !wanted {
            continue;
        }
        for &phase in phases(point) {
            // There both are gone anyway.
            if both && matches!(phase, Phase::Expiry(_) | Phase::Unattended) {
                continue;
            }
            let began = Instant::now();
            let told = scene.round(point, phase, both);
            eprintln!(
                "{point} ({phase:?}), both: {both}: {told}; {:?}",
                began.elapsed()
            );
        }
    }
    scene.end();
}

/// A session with a manager of its own, which gives up those that are gone for 6 s.
struct Scene {
    desk: Desk,
    web: Workload<'static>,
    manager: Namespace<'static>,
    _program: kdev_e2e::laptop::Program,
}

impl Scene {
    fn set() -> Self {
        let desk = Desk::clean();
        let web = Workload::up(desk.cluster, "faults");
        let manager = Namespace::only_named(desk.cluster, "faults");
        let name = manager.name();
        let install = ["install", "-n", name, "--session-grace", "6"];
        armed(&desk, &install);
        let armed = format!("{FILE}={MANAGERS}");
        let deployment = "deploy/kdev-traffic-manager";
        desk.cluster
            .kubectl(&["-n", name, "set", "env", deployment, &armed])
            .ok();
        let program = desk.laptop.serve(9000);
        let scene = Self {
            desk,
            web,
            manager,
            _program: program,
        };
        scene.rolled_out();
        scene.connect();
        scene
    }

    fn end(self) {
        self.desk.kdev(&["quit"]).ok();
        self.desk
            .kdev(&["uninstall", "-n", self.manager.name()])
            .ok();
        self.web.assert_untouched();
    }

    /// One process dies at a point, or both; says what became of it.
    fn round(&self, point: Point, phase: Phase, both: bool) -> String {
        let requests = Requests::start(self.desk.cluster.node(), self.web.address(80));
        requests.more(5);
        if phase == Phase::TakeOver {
            self.desk.kdev(&on(Mode::Intercept)).ok();
            let user = self.user();
            kill(user);
            wait::until_true("the user's daemon is dead", PASSED, || is_dead(user));
            self.connect();
        }
        let (pod, user, container) = (self.pod(), self.user(), self.serving());
        let asked = self.play(point, phase, &pod, user, both);
        let scaled_to_none = matches!(
            phase,
            Phase::On(Mode::Replace) | Phase::Off(Mode::Replace) | Phase::Expiry(_)
        );
        let manager_died =
            both || point.process() == Process::Manager || phase == Phase::Unattended;
        let died = manager_died
            .then_some(container)
            .flatten()
            .map(|(_, id)| id);
        let told = self.put_right(asked, died);
        requests.more(5);
        let tally = requests.stop();
        if let (Some((first, _)), Some((last, _))) = (tally.failed.first(), tally.failed.last())
            && !scaled_to_none
        {
            assert!(manager_died, "nobody's rule wanted them: {tally:?}");
            assert!(*last - *first < MISSED, "{tally:?}");
        }
        format!("{told}; {} requests failed", tally.failed.len())
    }

    /// Has it happen; what the command said that was under way, if any was.
    fn play(
        &self,
        point: Point,
        phase: Phase,
        pod: &Manager,
        user: i32,
        both: bool,
    ) -> Option<Outcome> {
        // As soon as the one is gone the other is, while the command may still wait.
        let strike = |also: bool| {
            let (passes, other) = match point.process() {
                Process::User => (user, pod.pod.pid),
                Process::Manager => (pod.pod.pid, user),
            };
            let patience = if may_be_left_out(point) { SOON } else { PASSED };
            let passed = || (!self.is_armed(point.process(), pod)).then_some(());
            if wait::within(patience, passed).is_none() {
                assert!(may_be_left_out(point), "{point} ({phase:?}) isn't passed");
                self.disarm(point.process(), pod);
                kill(passes);
            }
            wait::until_true("who passed the point is dead", PASSED, || is_dead(passes));
            if also {
                kill(other);
                wait::until_true("the other is dead", PASSED, || is_dead(other));
            }
        };
        let during = |command: &[&str]| {
            self.arm(point, pod);
            std::thread::scope(|scope| {
                let run = scope.spawn(|| self.desk.kdev(command));
                strike(both);
                Some(run.join().unwrap())
            })
        };
        match phase {
            Phase::On(mode) => during(&on(mode)),
            Phase::TakeOver => during(&[&on(Mode::Intercept)[..], &["--take-over"]].concat()),
            Phase::Off(mode) => {
                self.desk.kdev(&on(mode)).ok();
                during(&["leave", service(mode)])
            }
            Phase::Expiry(mode) => {
                self.desk.kdev(&on(mode)).ok();
                self.arm(point, pod);
                kill(user);
                strike(false);
                None
            }
            Phase::Rollout => {
                self.desk.kdev(&on(Mode::Intercept)).ok();
                self.arm(point, pod);
                self.delete_pod(&[]);
                strike(both);
                None
            }
            Phase::Unattended => {
                self.desk.kdev(&on(Mode::Intercept)).ok();
                self.arm(point, pod);
                self.scale("--replicas=0");
                strike(false);
                self.scale("--replicas=1");
                None
            }
        }
    }

    /// Waits until everything that comes back has, and the Service is as it was, or as asked; then leaves it.
    fn put_right(&self, asked: Option<Outcome>, died: Option<String>) -> String {
        let mut told = match &asked {
            Some(asked) if asked.code == 0 => "the command did it".to_owned(),
            Some(asked) => {
                let why = asked.stderr.lines().find(|line| line.starts_with("kdev: "));
                let why = why.unwrap_or_default();
                format!("the command failed with {}, {why:?}", asked.code)
            }
            None => "no command was under way".to_owned(),
        };
        if let Some(asked) = &asked
            && asked.code != 0
        {
            assert!(asked.stderr.contains("next: "), "no next step: {asked:#?}");
        }
        if let Some(died) = &died {
            wait::until_true("a manager is back", RIGHT, || {
                self.serving().is_some_and(|(_, serves)| serves != *died)
            });
        }
        if self.desk.laptop.daemons(Daemon::User).is_empty() {
            self.connect();
        } else {
            told += &self.settle();
        }
        let (web, desk) = (&self.web, &self.desk);
        wait::until_true("the preview is gone", RIGHT, || {
            let get = ["-n", web.namespace(), "get", "service", "mine"];
            desk.cluster.kubectl(&get).code != 0
        });
        wait::until_true("the Service is as it was", RIGHT, || {
            let service = web.service();
            let annotations = service["metadata"]["annotations"].to_string();
            service["spec"]["selector"]["app"] == "web"
                && !annotations.contains("kdev.dev/")
                && web.slices() == ["endpointslice-controller.k8s.io"]
        });
        wait::until_true("the workload is as it was", RIGHT, || {
            let deployment = desk
                .cluster
                .get(&["-n", web.namespace(), "deployment", "web"]);
            let metadata = deployment["metadata"].to_string();
            deployment["status"]["readyReplicas"] == 2
                && deployment["spec"]["replicas"] == 2
                && !metadata.contains(r#""kdev.dev/"#)
        });
        wait::until_true("its pods answer", RIGHT, || {
            let who = desk.cluster.node().inside(|| who_answers(web.address(80)));
            who.is_ok_and(|who| who.starts_with("web-"))
        });
        web.assert_untouched();
        if died.is_some() {
            // A container that dies twice is let wait before it is started again: the next pod isn't.
            self.delete_pod(&["--force", "--grace-period=0"]);
            self.rolled_out();
            self.session_is_ok();
        }
        told
    }

    /// The session lives: what it still holds works as asked, and is left.
    fn settle(&self) -> String {
        self.session_is_ok();
        let desk = &self.desk;
        let held = wait::until("each intercept works, or is over", RIGHT, || {
            let status = desk.status();
            let all = status["intercepts"].as_array()?.clone();
            all.iter().all(|one| one["state"] == "ok").then_some(all)
        });
        if held.is_empty() {
            return ", nothing is held".to_owned();
        }
        let services = held
            .iter()
            .map(|one| one["service"].as_str().unwrap().to_owned());
        let services: std::collections::BTreeSet<String> = services.collect();
        // What a copy is made of goes to the pods.
        if services.contains("web") && held.iter().all(|one| one["mode"] != "wiretap") {
            // What status says may be older than the manager's death.
            wait::until_true("ann's requests come here", RIGHT, || {
                desk.cluster.node().inside(|| {
                    let kept = Kept::connect(self.web.address(80));
                    let who = kept.and_then(|mut kept| kept.who_answers("x-user: ann\r\n"));
                    who.is_ok_and(|who| who == "the-laptop")
                })
            });
        }
        for one in &services {
            desk.kdev(&["leave", one]).ok();
        }
        ", what is held works".to_owned()
    }

    /// A pod that was deleted may answer for a moment, and know nothing of what its successor does.
    fn session_is_ok(&self) {
        wait::until_true("the session has the manager that serves", RIGHT, || {
            let status = self.desk.status();
            let detail = status["manager"]["detail"].as_str().unwrap_or_default();
            let serves = self
                .serving()
                .is_some_and(|(pod, _)| detail.ends_with(&pod));
            serves && status["session"]["state"] == "ok"
        });
    }

    fn connect(&self) {
        let to = ["--manager-namespace", self.manager.name()];
        let connect = ["connect", "-n", self.web.namespace()];
        armed(&self.desk, &[&connect[..], &to].concat());
    }

    fn user(&self) -> i32 {
        self.desk.laptop.daemons(Daemon::User)[0]
    }

    fn pod(&self) -> Manager {
        let label = "app.kubernetes.io/name=kdev-traffic-manager";
        let mut all = PodPlace::all(self.desk.cluster, self.manager.name(), label);
        assert_eq!(all.len(), 1, "{all:?}");
        Manager::of(all.remove(0))
    }

    fn arm(&self, point: Point, pod: &Manager) {
        match point.process() {
            Process::User => {
                let line = format!("printf %s {point} > {USERS}");
                self.desk.laptop.shell(User::Dev, &line).ok();
            }
            Process::Manager => {
                let file = pod.file();
                std::fs::write(&file, point.name()).unwrap();
                // Only its owner may remove a file there.
                chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
    }

    fn disarm(&self, process: Process, pod: &Manager) {
        match process {
            Process::User => drop(self.desk.laptop.run(User::Dev, &["rm", "-f", USERS])),
            Process::Manager => drop(std::fs::remove_file(pod.file())),
        }
    }

    /// Whether the point hasn't been passed.
    fn is_armed(&self, process: Process, pod: &Manager) -> bool {
        match process {
            Process::User => self.desk.laptop.run(User::Dev, &["test", "-e", USERS]).code == 0,
            Process::Manager => std::fs::exists(pod.file()).unwrap(),
        }
    }

    /// The manager's pod that serves, if any does, and its container.
    fn serving(&self) -> Option<(String, String)> {
        let pods = self.desk.cluster.get(&["-n", self.manager.name(), "pods"]);
        let mut all = pods["items"].as_array()?.iter();
        all.find_map(|pod| {
            let container = &pod["status"]["containerStatuses"][0];
            let lives = pod["metadata"]["deletionTimestamp"].is_null();
            let name = pod["metadata"]["name"].as_str()?;
            let id = container["containerID"].as_str()?;
            (lives && container["ready"] == true).then(|| (name.to_owned(), id.to_owned()))
        })
    }

    fn rolled_out(&self) {
        let words = [
            "rollout",
            "status",
            "--timeout=60s",
            "deploy/kdev-traffic-manager",
        ];
        let all = [&["-n", self.manager.name()][..], &words].concat();
        self.desk.cluster.kubectl(&all).ok();
    }

    fn scale(&self, replicas: &str) {
        let words = ["scale", "deploy/kdev-traffic-manager", replicas];
        let all = [&["-n", self.manager.name()][..], &words].concat();
        self.desk.cluster.kubectl(&all).ok();
    }

    fn delete_pod(&self, how: &[&str]) {
        let label = "app.kubernetes.io/name=kdev-traffic-manager";
        let words = [
            "-n",
            self.manager.name(),
            "delete",
            "pods",
            "-l",
            label,
            "--wait=false",
        ];
        self.desk.cluster.kubectl(&[&words[..], how].concat()).ok();
    }
}

/// Runs kdev; a daemon that it starts knows where to look.
fn armed(desk: &Desk, words: &[&str]) {
    let file = format!("{FILE}={USERS}");
    let all = [&["env", &file, "kdev"], words].concat();
    desk.laptop.run_for(User::Dev, &all, 3 * COMMAND).ok();
}

fn on(mode: Mode) -> Vec<&'static str> {
    let (verb, port) = match mode {
        Mode::Intercept => ("intercept", "9000:http"),
        Mode::Replace => ("replace", "9000:http"),
        Mode::Preview => ("preview", "9000:8080"),
        Mode::Wiretap => ("wiretap", "9000:http"),
    };
    let mut words = vec![verb, service(mode), "--port", port];
    if matches!(mode, Mode::Intercept | Mode::Wiretap) {
        words.extend(["--header", "x-user=ann"]);
    }
    words
}

fn service(mode: Mode) -> &'static str {
    match mode {
        Mode::Intercept | Mode::Replace | Mode::Wiretap => "web",
        Mode::Preview => "mine",
    }
}

/// The manager's pod, and a directory of it that is seen even after the process has ended.
struct Manager {
    pod: PodPlace,
    shared: File,
}

impl Manager {
    fn of(pod: PodPlace) -> Self {
        let shared = File::open(format!("/proc/{}/root/dev/shm", pod.pid)).unwrap();
        Self { pod, shared }
    }

    fn file(&self) -> String {
        let name = MANAGERS.rsplit('/').next().unwrap();
        format!("/proc/self/fd/{}/{name}", self.shared.as_raw_fd())
    }
}

/// Whether a process has ended; one that nobody has waited for yet has no command line any more.
fn is_dead(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| line.is_empty())
}

/// Ends a process that this test has found by its number.
fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    );
}
