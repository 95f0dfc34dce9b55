//! Makes the traffic that is measured; see `kdev_bench::load`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser};
use kdev_bench::load::lookups::{self, Transport};
use kdev_bench::load::protocol::Window;
use kdev_bench::load::requests::Requests;
use kdev_bench::load::throughput::{self, Direction};
use kdev_bench::load::{connections, idle, relay, round_trips, server};
use serde::Serialize;
use tokio::net::TcpListener;

/// Makes the traffic that is measured. Results are one line of JSON.
#[derive(Debug, Parser)]
#[command(name = "kdev-bench-load")]
enum Command {
    /// Serve until SIGTERM; says when it listens.
    Serve {
        /// Where.
        #[arg(long, default_value = "0.0.0.0:7100")]
        listen: SocketAddr,
        /// What answers to HTTP say who gave them.
        #[arg(long, default_value = "pod")]
        name: String,
    },
    /// Send as much as goes.
    Up(Transfer),
    /// Receive as much as comes.
    Down(Transfer),
    /// Send small messages there and back.
    RoundTrips {
        /// The server.
        #[arg(long)]
        to: SocketAddr,
        /// How long.
        #[arg(long, value_name = "MILLISECONDS", value_parser = millis)]
        time: Duration,
    },
    /// Make connections.
    Connections(Parallel),
    /// Make small requests.
    Requests {
        /// The server, and how much.
        #[command(flatten)]
        parallel: Parallel,
        /// What they ask.
        #[command(flatten)]
        request: Request,
        /// Each on a connection of its own; else connections are kept.
        #[arg(long)]
        new: bool,
    },
    /// Receive what large requests are answered with, on a kept connection.
    Download {
        /// The server, and when bytes count.
        #[command(flatten)]
        transfer: Transfer,
        /// What they ask.
        #[command(flatten)]
        request: Request,
    },
    /// Look names up.
    Lookups {
        /// The name server, and how much.
        #[command(flatten)]
        parallel: Parallel,
        /// Over TCP.
        #[arg(long)]
        tcp: bool,
    },
    /// Open connections, say so, and keep them until killed.
    Idle {
        /// The server.
        #[arg(long)]
        to: SocketAddr,
        /// How many.
        #[arg(long)]
        count: usize,
    },
    /// Pass on what comes, late; until killed.
    Relay {
        /// Where it is reached.
        #[arg(long)]
        listen: SocketAddr,
        /// Where it leads.
        #[arg(long)]
        to: SocketAddr,
        /// How much longer a round trip takes.
        #[arg(long, value_name = "MILLISECONDS", value_parser = millis)]
        round_trip: Duration,
    },
}

#[derive(Debug, Args)]
struct Transfer {
    /// The server.
    #[arg(long)]
    to: SocketAddr,
    /// How many connections.
    #[arg(long, default_value = "1")]
    streams: usize,
    /// How long bytes don't count.
    #[arg(long, value_name = "MILLISECONDS", value_parser = millis)]
    warm_up: Duration,
    /// How long they do.
    #[arg(long, value_name = "MILLISECONDS", value_parser = millis)]
    time: Duration,
}

#[derive(Debug, Args)]
struct Parallel {
    /// The server.
    #[arg(long)]
    to: SocketAddr,
    /// How many at a time.
    #[arg(long, default_value = "1")]
    at_once: usize,
    /// How long.
    #[arg(long, value_name = "MILLISECONDS", value_parser = millis)]
    time: Duration,
}

#[derive(Debug, Args)]
struct Request {
    /// A header line that it has.
    #[arg(long, default_value = "x-user: nobody")]
    header: String,
    /// Who has to answer; an answer of anybody else's is a failure.
    #[arg(long)]
    from: String,
}

fn millis(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Serve { listen, name } => serve(listen, &name),
        Command::Up(transfer) => throughput(Direction::Up, &transfer),
        Command::Down(transfer) => throughput(Direction::Down, &transfer),
        Command::RoundTrips { to, time } => tell(&round_trips::measure(to, time)?),
        Command::Connections(Parallel { to, at_once, time }) => {
            tell(&connections::measure(to, at_once, time))
        }
        Command::Requests {
            parallel: Parallel { to, at_once, time },
            request,
            new,
        } => tell(&requests(&request, to).small(at_once, new, time)?),
        Command::Download { transfer, request } => {
            tell(&requests(&request, transfer.to).download(window(&transfer))?)
        }
        Command::Lookups { parallel, tcp } => {
            let transport = if tcp { Transport::Tcp } else { Transport::Udp };
            let Parallel { to, at_once, time } = parallel;
            tell(&lookups::measure(to, transport, at_once, time)?)
        }
        Command::Idle { to, count } => {
            let open = idle::open(to, count)?;
            tell(&open.len())?;
            loop {
                std::thread::park();
            }
        }
        Command::Relay {
            listen,
            to,
            round_trip,
        } => pass_on(listen, to, round_trip),
    }
}

#[tokio::main]
async fn serve(listen: SocketAddr, name: &str) -> anyhow::Result<()> {
    let listener = server::listen(listen).with_context(|| format!("listening on {listen}"))?;
    tell(&"ready")?;
    Ok(server::serve(listener, name).await?)
}

#[tokio::main]
async fn pass_on(listen: SocketAddr, to: SocketAddr, round_trip: Duration) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listening on {listen}"))?;
    tell(&"ready")?;
    Ok(relay::relay(listener, to, round_trip).await?)
}

fn throughput(direction: Direction, transfer: &Transfer) -> anyhow::Result<()> {
    let (to, streams) = (transfer.to, transfer.streams);
    let window = window(transfer);
    tell(&throughput::measure(to, direction, streams, window)?)
}

fn window(transfer: &Transfer) -> Window {
    Window {
        warm_up: transfer.warm_up,
        length: transfer.time,
    }
}

fn requests(request: &Request, to: SocketAddr) -> Requests {
    Requests::new(to, &request.header, &request.from)
}

fn tell(result: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(result)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}
