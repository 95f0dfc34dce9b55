//! Opening a way to the pod, with or without a delay, and taking it down again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use kdev_e2e::laptop::{Daemon, User};
use kdev_e2e::wait;
use serde_json::Value;

use crate::background::Background;
use crate::contender::Contender;
use crate::scene::{NAMESPACE, PORT, Scene};

/// How long a way may take to open.
const OPEN: Duration = Duration::from_secs(60);
/// How long kdev may take to give hundreds of intercepts back.
const CLOSE: Duration = Duration::from_secs(180);
/// Carriers that kdev keeps for flows.
const CARRIERS: usize = 3;
/// Where kdev's name server listens.
const RESOLVER: &str = "/etc/resolv.conf";

/// Ports on the laptop's loopback.
mod local {
    pub(super) const KUBECTL: u16 = 17100;
    pub(super) const KUBECTL_DNS: u16 = 17053;
    pub(super) const RELAY_API: u16 = 17443;
    pub(super) const RELAY_POD: u16 = 17101;
    pub(super) const RELAY_DNS: u16 = 17054;
    pub(super) const RELAY_MANAGER: u16 = 17444;
}

/// A way that is open.
#[derive(Debug)]
pub struct Way<'a> {
    /// Which.
    pub contender: Contender,
    /// Who has to go it.
    pub user: User,
    /// Where it leads to the load server from.
    pub server: SocketAddr,
    /// Where it leads to the cluster's names from, and whether only over TCP.
    pub names: Option<(SocketAddr, bool)>,
    /// How long it took to open, where something had to be.
    pub took: Option<Duration>,
    // In the order in which they are to go.
    _session: Option<Session<'a>>,
    _programs: Vec<Background>,
}

impl<'a> Way<'a> {
    /// Opens it; everything takes `delay` ms longer there and back.
    ///
    /// # Errors
    ///
    /// When it doesn't open.
    pub fn open(scene: &'a Scene, contender: Contender, delay: u32) -> anyhow::Result<Self> {
        match contender {
            Contender::Kernel => kernel(scene, delay),
            Contender::Kubectl => kubectl(scene, delay),
            Contender::Forward | Contender::Direct => kdev(scene, contender, delay),
            Contender::Sshuttle => crate::sshuttle::open(scene, delay),
            _ => bail!("it doesn't begin on the machine"),
        }
    }
}

impl<'a> Way<'a> {
    /// One that leads to the pod's own address for everybody.
    pub(crate) fn plain(
        scene: &'a Scene,
        contender: Contender,
        names: Option<(SocketAddr, bool)>,
        programs: Vec<Background>,
    ) -> Self {
        Self {
            contender,
            user: User::Dev,
            server: scene.server,
            names,
            took: None,
            _session: None,
            _programs: programs,
        }
    }
}

fn kernel(scene: &Scene, delay: u32) -> anyhow::Result<Way<'_>> {
    let names = Some((scene.names, false));
    let mut way = Way::plain(scene, Contender::Kernel, names, Vec::new());
    way.user = User::Eve;
    if delay > 0 {
        way.server = loopback(local::RELAY_POD);
        way.names = Some((loopback(local::RELAY_DNS), true));
        way._programs = vec![
            relay(scene, "eve", way.server, scene.server, delay)?,
            relay(scene, "eve", loopback(local::RELAY_DNS), scene.names, delay)?,
        ];
    }
    Ok(way)
}

fn kubectl(scene: &Scene, delay: u32) -> anyhow::Result<Way<'_>> {
    let (kubeconfig, relays) = api_server(scene, delay, local::RELAY_API)?;
    let names_pod = &scene.names_pod;
    let to_names = format!("{}:53", local::KUBECTL_DNS);
    let names = port_forward(scene, &kubeconfig, "kube-system", names_pod, &to_names)?;
    let began = Instant::now();
    let to_server = format!("{}:{PORT}", local::KUBECTL);
    let server = port_forward(scene, &kubeconfig, NAMESPACE, &scene.pod, &to_server)?;
    let took = began.elapsed();
    // A relay that goes first would be an error to those who use it.
    let programs = [server, names].into_iter().chain(relays).collect();
    let names = Some((loopback(local::KUBECTL_DNS), true));
    let mut way = Way::plain(scene, Contender::Kubectl, names, programs);
    way.server = loopback(local::KUBECTL);
    way.took = Some(took);
    Ok(way)
}

fn port_forward(
    scene: &Scene,
    kubeconfig: &str,
    namespace: &str,
    pod: &str,
    ports: &str,
) -> anyhow::Result<Background> {
    let head = ["kubectl", "--kubeconfig", kubeconfig, "-n", namespace];
    let tail = ["port-forward", "--address", "127.0.0.1", pod, ports];
    Background::start(scene.command("dev", &[&head[..], &tail].concat()), OPEN)
}

fn kdev(scene: &Scene, contender: Contender, delay: u32) -> anyhow::Result<Way<'_>> {
    // A port of its own: kubectl's way may be open at the same time, and is another one.
    let (kubeconfig, mut programs) = api_server(scene, delay, local::RELAY_API + 2)?;
    let kind = match (contender, delay) {
        (Contender::Forward, _) => "never".to_owned(),
        (_, 0) => "auto".to_owned(),
        _ => {
            let manager = scene
                .manager
                .context("the manager has no port on the node")?;
            let at = loopback(local::RELAY_MANAGER);
            programs.push(relay(scene, "dev", at, manager, delay)?);
            at.to_string()
        }
    };
    let mut args = vec![
        "kdev",
        "connect",
        "-n",
        NAMESPACE,
        "--kubeconfig",
        &kubeconfig,
    ];
    if scene.chooses_carriers {
        args.extend(["--direct", &kind]);
    }
    let began = Instant::now();
    let outcome = scene.laptop().run_for(User::Dev, &args, OPEN);
    let took = began.elapsed();
    ensure!(
        outcome.code == 0,
        "kdev connect: {}{}",
        outcome.stdout,
        outcome.stderr
    );
    let session = Session(scene);
    let wanted = if contender == Contender::Forward {
        "port-forward"
    } else {
        "direct"
    };
    carriers(scene, wanted)?;
    let names = Some((resolver(scene)?, false));
    let mut way = Way::plain(scene, contender, names, programs);
    way.took = Some(took);
    way._session = Some(session);
    Ok(way)
}

/// Waits until all carriers carry, and are of the kind that is to be measured.
fn carriers(scene: &Scene, wanted: &str) -> anyhow::Result<()> {
    let mut last = Value::Null;
    let ready = wait::within(OPEN, || {
        last = status(scene);
        let carriers = last["carriers"].as_array()?;
        // The first one is for control.
        let flows = carriers.iter().filter(|carrier| carrier["id"] != 0);
        let good = flows.filter(|carrier| carrier["kind"] == wanted && carrier["state"] == "ok");
        (good.count() >= CARRIERS).then_some(())
    });
    ready.with_context(|| format!("no {CARRIERS} {wanted} carriers: {:#}", last["carriers"]))
}

/// What `kdev status` shows.
pub fn status(scene: &Scene) -> Value {
    let outcome = scene
        .laptop()
        .run(User::Dev, &["kdev", "status", "-o", "json"]);
    serde_json::from_str(&outcome.stdout).unwrap_or_default()
}

fn resolver(scene: &Scene) -> anyhow::Result<SocketAddr> {
    let file = scene
        .laptop()
        .run(User::Dev, &["cat", RESOLVER])
        .ok()
        .stdout;
    let server = file
        .lines()
        .find_map(|line| line.strip_prefix("nameserver "));
    let address: std::net::IpAddr = server.context("no name server")?.trim().parse()?;
    Ok((address, 53).into())
}

/// kdev's session; nothing of kdev's runs afterwards.
#[derive(Debug)]
struct Session<'a>(&'a Scene);

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.0.laptop().run_for(User::Dev, &["kdev", "quit"], CLOSE);
    }
}

/// A kubeconfig that leads to the API server with a delay.
fn api_server(scene: &Scene, delay: u32, port: u16) -> anyhow::Result<(String, Vec<Background>)> {
    let own = "/home/dev/.kube/config";
    if delay == 0 {
        return Ok((own.to_owned(), Vec::new()));
    }
    let (at, real) = (loopback(port), scene.api_server);
    let delayed = format!("/home/dev/.kube/by-{port}");
    let line =
        format!("sed 's|https://{real}|https://{at}|' {own} > {delayed}; grep -q {at} {delayed}");
    let made = scene.laptop().shell(User::Dev, &line);
    ensure!(made.code == 0, "{own} doesn't name {real}");
    Ok((delayed, vec![relay(scene, "dev", at, real, delay)?]))
}

/// Puts a slow network before an address.
pub(crate) fn relay(
    scene: &Scene,
    user: &str,
    listen: SocketAddr,
    to: SocketAddr,
    delay: u32,
) -> anyhow::Result<Background> {
    let (listen, to, delay) = (listen.to_string(), to.to_string(), delay.to_string());
    let args = ["kdev-bench-load", "relay", "--listen", &listen, "--to", &to];
    let args = [&args[..], &["--round-trip", &delay]].concat();
    Background::start(scene.command(user, &args), OPEN)
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// The processes on the laptop that hold a way open.
///
/// # Errors
///
/// When there is none.
pub fn processes(scene: &Scene, contender: Contender) -> anyhow::Result<Vec<i32>> {
    let laptop = scene.laptop();
    let found = match contender {
        Contender::Forward | Contender::Direct => {
            let daemons = laptop.all_daemons().into_iter();
            let counted = daemons.filter(|(daemon, _)| *daemon != Daemon::Guard);
            counted.map(|(_, pid)| pid).collect()
        }
        Contender::Kubectl => {
            let line = format!("pgrep -f '^kubectl .* port-forward .* {}:'", local::KUBECTL);
            numbers(&laptop.shell(User::Root, &line).stdout)
        }
        // Its own, its firewall helper, and the SSH client.
        Contender::Sshuttle => {
            let line = "pgrep -f '[p]ython.* sshuttle|[b]in/sshuttle|^ssh .*target/bench/ssh'";
            numbers(&laptop.shell(User::Root, line).stdout)
        }
        _ => bail!("{contender} has no process on the machine"),
    };
    ensure!(!found.is_empty(), "no process of {contender}");
    Ok(found)
}

fn numbers(text: &str) -> Vec<i32> {
    text.lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect()
}
