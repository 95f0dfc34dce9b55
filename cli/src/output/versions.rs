//! `kdev version`.

use kdev_proto::Failure;
use kdev_proto::v1::{Version, Versions};
use serde::Serialize;

use super::{json, result, table};
use crate::args::Format;

#[derive(Serialize)]
struct View {
    client: One,
    userd: Option<One>,
    rootd: Option<One>,
    manager: Option<One>,
}

#[derive(Serialize)]
struct One {
    version: String,
    protocol: u32,
}

fn one(version: &Version) -> One {
    One {
        version: version.version.clone(),
        protocol: version.protocol,
    }
}

/// Shows the versions.
///
/// # Errors
///
/// When JSON can't be written.
pub fn show(client: &Version, others: &Versions, format: Format) -> Result<(), Failure> {
    let view = View {
        client: one(client),
        userd: others.userd.as_ref().map(one),
        rootd: others.rootd.as_ref().map(one),
        manager: others.manager.as_ref().map(one),
    };
    if format == Format::Json {
        return json(&view);
    }
    let row = |name: &str, one: Option<&One>, missing: &str| {
        let text = one.map_or_else(|| missing.to_owned(), |one| one.version.clone());
        [name.to_owned(), text]
    };
    result(&table::lay_out(&[
        row("client", Some(&view.client), ""),
        row("userd", view.userd.as_ref(), "not running"),
        row("rootd", view.rootd.as_ref(), "not running"),
        row("manager", view.manager.as_ref(), "not connected"),
    ]));
    Ok(())
}
