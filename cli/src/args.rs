//! What can be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::names::{parse_namespace, parse_service};
use crate::ports::{Ports, parse_ports, parse_service_port};
use crate::rule_args::RuleArgs;

/// Makes this machine part of a Kubernetes cluster's network, both ways.
#[derive(Debug, Parser)]
#[command(name = "kdev", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 a defect; 2 usage; 3 a daemon; 4 not permitted here; \
5 kubeconfig; 6 API server; 7 rights in the cluster; 8 manager; 9 versions; 10 not found; 11 conflict; \
12 local port; 13 probe; 14 not connected; 15 time-out; 16 this machine's network";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install the traffic manager into the cluster, or bring it up to date.
    Install(InstallArgs),
    /// Remove the traffic manager and everything of kdev's from the cluster.
    Uninstall(UninstallArgs),
    /// Connect this machine to the cluster's network.
    Connect(ConnectArgs),
    /// Show how every part of kdev is doing.
    Status(OutputArgs),
    /// List the services that can be intercepted, and who holds what.
    List(ListArgs),
    /// Let a service's connections come to a program on this machine.
    Intercept(InterceptArgs),
    /// Let a copy of what a service gets come here; who asked it notices nothing.
    Wiretap(WiretapArgs),
    /// Intercept a service, and scale what is behind it to zero meanwhile.
    Replace(ReplaceArgs),
    /// Make a new service that leads to this machine only, until it is left.
    Preview(PreviewArgs),
    /// Give an intercepted service back.
    Leave(LeaveArgs),
    /// Put back what sessions have changed in the cluster, when no manager is there to do it.
    Recover(RecoverArgs),
    /// End the session; nothing of it is left, here or in the cluster.
    Quit,
    /// Show the versions of this command, the daemons and the manager.
    Version(OutputArgs),
}

/// Which cluster.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct ClusterArgs {
    /// Kubeconfig file [default: KUBECONFIG, else ~/.kube/config].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current context].
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// Arguments of `kdev install`.
#[derive(Debug, ClapArgs)]
pub struct InstallArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Namespace of the manager; made when it is missing.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace, default_value = "kdev")]
    pub namespace: String,
    /// Image of the manager [default: the installed one, or this release's where that came from;
    /// docker.io/kdev/traffic-manager at first].
    #[arg(
        long,
        value_name = "IMAGE",
        env = "KDEV_IMAGE",
        default_value = "",
        hide_default_value = true
    )]
    pub image: String,
    /// When the kubelet pulls the image.
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: Option<String>,
    /// How machines reach the manager without the API server between; who has no key that a Lease vouches
    /// for gets nothing there [default: as installed, node-port at first].
    #[arg(long, value_name = "WAY", value_parser = ways(), default_value = "", hide_default_value = true)]
    pub direct: String,
    /// Seconds after which a session that is gone loses its intercepts [default: as installed, 15 at first].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub session_grace: Option<u32>,
    /// What the manager's router takes of a client.
    #[command(flatten)]
    pub router: RouterArgs,
}

/// The ways to reach the manager directly; the empty one, which isn't shown, is that none was given.
fn ways() -> [PossibleValue; 4] {
    ["", "node-port", "load-balancer", "none"]
        .map(|way| PossibleValue::new(way).hide(way.is_empty()))
}

/// Limits of the manager's router, through which connections to intercepted Services go.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Limits of connections to intercepted Services")]
pub struct RouterArgs {
    /// Bytes of a request's head; more is answered 431 [default: 65536].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1024..=1 << 20))]
    pub router_head_bytes: Option<u32>,
    /// Header lines of a request; more is answered 431 [default: 256].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(16..=4096))]
    pub router_headers: Option<u32>,
    /// Milliseconds that a client may be silent before a pod is listened to as well, as in protocols in which
    /// the server speaks first [default: 1000].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(10..=60_000))]
    pub router_first_byte_ms: Option<u32>,
    /// Milliseconds that a request's head may take from its first byte to its last [default: 10000].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(100..=600_000))]
    pub router_head_ms: Option<u32>,
    /// Connections to one port of a Service at once; more wait [default: 4096].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub router_connections: Option<u32>,
}

/// Arguments of `kdev uninstall`.
#[derive(Debug, ClapArgs)]
pub struct UninstallArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Namespace of the manager.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace, default_value = "kdev")]
    pub namespace: String,
}

/// Arguments of `kdev connect`.
#[derive(Debug, ClapArgs)]
pub struct ConnectArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Namespace that short names mean [default: the context's].
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace)]
    pub namespace: Option<String>,
    /// Namespace of the manager.
    #[arg(long, value_name = "NAMESPACE", value_parser = parse_namespace, default_value = "kdev")]
    pub manager_namespace: String,
    /// How the manager is reached without the API server between: "auto" tries what the manager says,
    /// "never" uses port-forwards only, HOST:PORT is where its own port is reached.
    #[arg(long, value_name = "WAY", value_parser = parse_direct, default_value = "auto")]
    pub direct: String,
    /// Seconds that a TCP connection may be without a way to the cluster before it is reset, from when the
    /// way is known to be lost [default: 60].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub resume_limit: Option<u32>,
}

/// How to show the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Arguments of commands that only show something.
#[derive(Debug, ClapArgs)]
pub struct OutputArgs {
    /// How to show it.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// Arguments of `kdev list`.
#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    /// Which cluster, when not connected.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Namespace [default: the session's, else the context's].
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace)]
    pub namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// How to show it.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// What comes to this machine, and for whom.
#[derive(Debug, ClapArgs)]
pub struct TakeArgs {
    /// The service: NAME, or svc/NAME.
    #[arg(value_name = "SERVICE", value_parser = parse_service)]
    pub service: String,
    /// Port of the local program, and the service's port by number or name where it has several, and its
    /// protocol where it has both under one number; may be given several times.
    #[arg(short, long, value_name = "LOCAL[:PORT][/udp|/tcp]", value_parser = parse_ports, required = true)]
    pub port: Vec<Ports>,
    /// Namespace of the service [default: the session's].
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace)]
    pub namespace: Option<String>,
    /// Program to run for the life of the intercept: it is left when the program ends, whose exit code
    /// is then kdev's.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Which requests.
#[derive(Debug, ClapArgs)]
pub struct WhichArgs {
    /// By conditions.
    #[command(flatten)]
    pub rule: RuleArgs,
    /// Only requests that carry your own mark; how to send it is printed.
    #[arg(long, conflicts_with_all = RuleArgs::NAMES)]
    pub mine: bool,
}

/// Arguments of `kdev intercept`.
#[derive(Debug, ClapArgs)]
pub struct InterceptArgs {
    /// What comes here.
    #[command(flatten)]
    pub take: TakeArgs,
    /// Which of it.
    #[command(flatten)]
    pub which: WhichArgs,
    /// End an earlier intercept of yours that is in the way.
    #[arg(long)]
    pub take_over: bool,
    /// What becomes of requests while nothing listens on the local port: "refuse" answers with 502, or a
    /// reset, and drops datagrams; "pass" sends them to the pods.
    #[arg(long, value_name = "WHAT", value_parser = ["refuse", "pass"], default_value = "refuse")]
    pub if_down: String,
}

/// Arguments of `kdev wiretap`.
#[derive(Debug, ClapArgs)]
pub struct WiretapArgs {
    /// What comes here.
    #[command(flatten)]
    pub take: TakeArgs,
    /// Which of it.
    #[command(flatten)]
    pub which: WhichArgs,
}

/// Arguments of `kdev replace`.
#[derive(Debug, ClapArgs)]
pub struct ReplaceArgs {
    /// What comes here.
    #[command(flatten)]
    pub take: TakeArgs,
    /// Known only to be refused with the reason: there are no pods to pass anything to.
    #[arg(long, value_name = "WHAT", value_parser = ["refuse", "pass"], default_value = "refuse", hide = true)]
    pub if_down: String,
    /// End an earlier intercept of yours that is in the way.
    #[arg(long)]
    pub take_over: bool,
}

/// Arguments of `kdev preview`.
#[derive(Debug, ClapArgs)]
pub struct PreviewArgs {
    /// What comes here, of a service that is made for it.
    #[command(flatten)]
    pub take: TakeArgs,
}

/// Arguments of `kdev recover`.
#[derive(Debug, ClapArgs)]
pub struct RecoverArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Look only in this namespace [default: all].
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace)]
    pub namespace: Option<String>,
    /// Namespace of the manager that was there.
    #[arg(long, value_name = "NAMESPACE", value_parser = parse_namespace, default_value = "kdev")]
    pub manager_namespace: String,
    /// Only say what would be put back.
    #[arg(long)]
    pub dry_run: bool,
}

fn parse_direct(text: &str) -> Result<String, String> {
    let is_host_and_port = || {
        let (host, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let inner = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let is_host = match inner {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && !host.contains([':', '/', '[', ']', ' ']),
        };
        (is_host && port != 0).then_some(())
    };
    if matches!(text, "auto" | "never") || is_host_and_port().is_some() {
        return Ok(text.to_owned());
    }
    Err("it is auto, never, or HOST:PORT with a port from 1 to 65535".to_owned())
}

/// Arguments of `kdev leave`.
#[derive(Debug, ClapArgs)]
pub struct LeaveArgs {
    /// The service: NAME, or svc/NAME.
    #[arg(value_name = "SERVICE", value_parser = parse_service)]
    pub service: String,
    /// Namespace of the service [default: the session's].
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace)]
    pub namespace: Option<String>,
    /// Only this port of the service, by number or name, and by protocol where it has both [default: all that
    /// this session has].
    #[arg(short, long, value_name = "PORT[/udp|/tcp]", value_parser = parse_service_port)]
    pub port: Option<String>,
    /// Only the intercept with this rule.
    #[command(flatten)]
    pub rule: RuleArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_make_sense_to_their_parser() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_direct_way_is_a_word_or_a_host_with_a_port() {
        for right in [
            "auto",
            "never",
            "10.0.0.5:31000",
            "[fd00::5]:31000",
            "node.example:7443",
        ] {
            assert_eq!(parse_direct(right).as_deref(), Ok(right));
        }
        for wrong in [
            "",
            "always",
            "10.0.0.5",
            ":1",
            "a:0",
            "a:65536",
            "fd00::5:1",
            "[x]:1",
            "http://a:1",
        ] {
            assert!(parse_direct(wrong).is_err(), "{wrong}");
        }
    }
}
