//! Compares kdev with the kernel, `kubectl port-forward`, sshuttle and nginx; `tests/bench/run` calls it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Parser};
use kdev_bench::contender::Contender;
use kdev_bench::machine::Machine;
use kdev_bench::measure::Topic;
use kdev_bench::plan::Plan;
use kdev_bench::record::Record;
use kdev_bench::scene::Scene;
use kdev_bench::{document, run, table};

/// Compares kdev with other ways to a pod.
#[derive(Debug, Parser)]
#[command(name = "kdev-bench")]
enum Command {
    /// Measure, on a cluster that is up.
    Run(RunArgs),
    /// Print a record's tables, or put them into a document.
    Render {
        /// The record.
        record: PathBuf,
        /// The document.
        #[arg(long)]
        into: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The cluster.
    #[arg(long, env = "KDEV_CLUSTER")]
    cluster: String,
    /// Where the record goes.
    #[arg(long)]
    record: PathBuf,
    /// Only a glance: fewer repetitions, shorter ones.
    #[arg(long)]
    quick: bool,
    /// Only these.
    #[arg(long, value_delimiter = ',', value_name = "MEASURE")]
    only: Vec<Topic>,
    /// Only these.
    #[arg(long, value_delimiter = ',', value_name = "WAY")]
    ways: Vec<Contender>,
    /// Round-trip delays.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "MILLISECONDS",
        default_value = "0,20,100"
    )]
    delays: Vec<u32>,
    /// How often everything is done [default: 5 without delay, 3 with one].
    #[arg(long)]
    repetitions: Option<u32>,
    /// How many idle connections there are.
    #[arg(long, default_value = "5000")]
    idle_connections: usize,
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Run(args) => measure(args),
        Command::Render { record, into } => render(&record, into.as_deref()),
    }
}

fn measure(args: RunArgs) -> anyhow::Result<()> {
    // Before anything is started: the load is to be that of others.
    let machine = Machine::look();
    let plan = plan(&args);
    let scene = Scene::set(&args.cluster)?;
    let record = run::run(&scene, &plan, machine);
    let text = serde_json::to_string_pretty(&record)?;
    let path = &args.record;
    fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    print(&table::all(&record))?;
    print(&format!(
        "{}: all of it; it took {:.0} s\n",
        path.display(),
        record.took
    ))
}

fn plan(args: &RunArgs) -> Plan {
    let repetitions = |delay: u32| {
        args.repetitions.unwrap_or(match (args.quick, delay) {
            (false, 0) => 5,
            (false, _) | (true, 0) => 3,
            (true, _) => 1,
        })
    };
    let all = || Topic::REPEATED.into_iter().chain(Topic::OTHERS);
    Plan {
        quick: args.quick,
        repetitions: args
            .delays
            .iter()
            .map(|delay| (*delay, repetitions(*delay)))
            .collect(),
        topics: if args.only.is_empty() {
            all().collect()
        } else {
            args.only.clone()
        },
        contenders: if args.ways.is_empty() {
            Contender::all()
        } else {
            args.ways.clone()
        },
        idle_connections: args.idle_connections,
    }
}

fn render(record: &Path, into: Option<&Path>) -> anyhow::Result<()> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
    let record: Record = serde_json::from_str(&read(record)?)?;
    match into {
        None => print(&table::all(&record)),
        Some(path) => Ok(fs::write(path, document::renew(&read(path)?, &record)?)?),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}
