//! `kdev status`.

use kdev_common::clock;
use kdev_proto::Failure;
use kdev_proto::v1::{CarrierStatus, InterceptStatus, Part, RouteStatus, Session, State, Status};
use serde::Serialize;

use super::{json, mode_name, result, table, time};
use crate::args::Format;

#[derive(Serialize)]
struct View {
    connected: bool,
    userd: DaemonView,
    rootd: DaemonView,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manager: Option<PartView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direct: Option<PartView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_server: Option<PartView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<PartView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing: Option<PartView>,
    routes: Vec<RouteView>,
    carriers: Vec<CarrierView>,
    intercepts: Vec<InterceptView>,
}

#[derive(Serialize)]
struct PartView {
    state: &'static str,
    since_ms: u64,
    detail: String,
}

#[derive(Serialize)]
struct DaemonView {
    #[serde(flatten)]
    part: PartView,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
}

#[derive(Serialize)]
struct SessionView {
    id: String,
    context: String,
    namespace: String,
    manager_namespace: String,
    api_server: String,
    #[serde(flatten)]
    part: PartView,
}

#[derive(Serialize)]
struct RouteView {
    prefix: String,
    state: &'static str,
    since_ms: u64,
    installed: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    conflict: String,
}

#[derive(Serialize)]
struct CarrierView {
    id: u32,
    kind: String,
    #[serde(flatten)]
    part: PartView,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_us: Option<u64>,
    flows: u32,
}

#[derive(Serialize)]
struct InterceptView {
    id: String,
    namespace: String,
    service: String,
    port: u32,
    port_name: String,
    protocol: String,
    local_port: u32,
    connections: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    rule: String,
    mode: &'static str,
    #[serde(flatten)]
    part: PartView,
}

fn part(part: Option<&Part>) -> PartView {
    let part = part.cloned().unwrap_or_default();
    let state = match part.state() {
        State::Ok => "ok",
        State::Pending => "pending",
        State::Degraded => "degraded",
        State::Down => "down",
        State::Unspecified => "unknown",
    };
    PartView {
        state,
        since_ms: part.since_ms,
        detail: part.detail,
    }
}

fn daemon(one: Option<&Part>, pid: u32) -> DaemonView {
    DaemonView {
        part: part(one),
        pid: (pid != 0).then_some(pid),
    }
}

fn view(status: &Status) -> View {
    let session = status.session.as_ref();
    let root = status.root.clone().unwrap_or_default();
    let control = session.and_then(|session| session.control.as_ref());
    View {
        connected: session.is_some(),
        userd: daemon(status.userd.as_ref(), status.pid),
        rootd: daemon(status.rootd.as_ref(), root.pid),
        session: session.map(session_view),
        manager: session.map(|session| part(session.manager.as_ref())),
        direct: session.map(|session| part(session.direct.as_ref())),
        api_server: session.map(|session| part(session.api.as_ref())),
        dns: root.dns.as_ref().map(|one| part(Some(one))),
        routing: root.routing.as_ref().map(|one| part(Some(one))),
        routes: {
            let since = root.routing.as_ref().map_or(0, |part| part.since_ms);
            root.routes.iter().map(|one| route(one, since)).collect()
        },
        carriers: control
            .into_iter()
            .chain(&root.carriers)
            .map(carrier)
            .collect(),
        intercepts: session
            .iter()
            .flat_map(|one| &one.intercepts)
            .map(intercept)
            .collect(),
    }
}

fn session_view(session: &Session) -> SessionView {
    SessionView {
        id: session.id.clone(),
        context: session.context.clone(),
        namespace: session.namespace.clone(),
        manager_namespace: session.manager_namespace.clone(),
        api_server: session.api_server.clone(),
        part: part(session.part.as_ref()),
    }
}

fn route(route: &RouteStatus, since_ms: u64) -> RouteView {
    RouteView {
        prefix: route.prefix.clone(),
        state: match (route.installed.is_empty(), route.conflict.is_empty()) {
            (true, _) => "down",
            (false, false) => "degraded",
            (false, true) => "ok",
        },
        since_ms,
        installed: route.installed.clone(),
        conflict: route.conflict.clone(),
    }
}

fn carrier(carrier: &CarrierStatus) -> CarrierView {
    CarrierView {
        id: carrier.id,
        kind: carrier.kind.clone(),
        part: part(carrier.part.as_ref()),
        round_trip_us: (carrier.round_trip_us > 0).then_some(carrier.round_trip_us),
        flows: carrier.flows,
    }
}

fn intercept(intercept: &InterceptStatus) -> InterceptView {
    InterceptView {
        id: intercept.id.clone(),
        namespace: intercept.namespace.clone(),
        service: intercept.service.clone(),
        port: intercept.port,
        port_name: intercept.port_name.clone(),
        protocol: intercept.protocol.clone(),
        local_port: intercept.local_port,
        connections: intercept.connections,
        rule: intercept.rule.clone(),
        mode: mode_name(intercept.mode()),
        part: part(intercept.part.as_ref()),
    }
}

/// Shows the status.
///
/// # Errors
///
/// When JSON can't be written.
pub fn show(status: &Status, format: Format) -> Result<(), Failure> {
    let view = view(status);
    if format == Format::Json {
        return json(&view);
    }
    result(&table::lay_out(&rows(&view, clock::now_ms())));
    Ok(())
}

fn rows(view: &View, now: u64) -> Vec<[String; 4]> {
    let mut rows = vec![["PART", "STATE", "SINCE", "DETAIL"].map(str::to_owned)];
    let mut row = |name: &str, part: &PartView, detail: String| {
        rows.push([
            name.to_owned(),
            part.state.to_owned(),
            time::ago(part.since_ms, now),
            detail,
        ]);
    };
    row("userd", &view.userd.part, view.userd.part.detail.clone());
    row("rootd", &view.rootd.part, view.rootd.part.detail.clone());
    if let Some(session) = &view.session {
        row(
            "session",
            &session.part,
            format!(
                "context {}, namespace {}; {}",
                session.context, session.namespace, session.part.detail
            ),
        );
    }
    let named = [
        ("manager", &view.manager),
        ("direct", &view.direct),
        ("API server", &view.api_server),
        ("dns", &view.dns),
        ("routing", &view.routing),
    ];
    for (name, part) in named {
        if let Some(part) = part {
            row(name, part, part.detail.clone());
        }
    }
    for carrier in &view.carriers {
        let name = if carrier.id == 0 {
            "control".to_owned()
        } else {
            format!("carrier {}", carrier.id)
        };
        let trip = carrier.round_trip_us.map(time::round_trip);
        let trip = trip.map_or_else(String::new, |trip| format!("{trip}, "));
        row(
            &name,
            &carrier.part,
            format!(
                "{}, {trip}{} flows; {}",
                carrier.kind, carrier.flows, carrier.part.detail
            ),
        );
    }
    for one in &view.intercepts {
        row(
            "intercept",
            &one.part,
            format!(
                "{}/{} port {}/{}{}{} to local port {}, {} {}; {}",
                one.namespace,
                one.service,
                one.port,
                one.protocol,
                rule(&one.rule),
                more(one.mode),
                one.local_port,
                one.connections,
                // Of datagrams those of one client are counted as one.
                if one.protocol == "UDP" {
                    "clients"
                } else {
                    "connections"
                },
                one.part.detail
            ),
        );
    }
    for route in &view.routes {
        let whole = PartView {
            state: route.state,
            since_ms: route.since_ms,
            detail: String::new(),
        };
        let detail = [route.prefix.as_str(), &route.conflict].join(" ");
        row("route", &whole, detail.trim_end().to_owned());
    }
    rows
}

fn more(mode: &str) -> &'static str {
    match mode {
        "replace" => ", replaced,",
        "preview" => ", made for it,",
        "wiretap" => ", a copy,",
        _ => "",
    }
}

fn rule(flags: &str) -> String {
    match flags {
        "" => String::new(),
        flags => format!(" for {flags}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_running_is_said_in_full() {
        let down = Part {
            state: State::Down.into(),
            since_ms: 0,
            detail: "not running".to_owned(),
        };
        let status = Status {
            userd: Some(down.clone()),
            rootd: Some(down),
            ..Status::default()
        };
        let text = table::lay_out(&rows(&view(&status), 0));
        assert_eq!(text.lines().count(), 3);
        assert!(
            text.lines()
                .skip(1)
                .all(|line| line.contains("down") && line.contains("not running"))
        );
    }

    #[test]
    fn the_control_connection_and_the_carriers_are_listed_together() {
        let carrier = |id| CarrierStatus {
            id,
            ..CarrierStatus::default()
        };
        let status = Status {
            session: Some(Session {
                control: Some(carrier(0)),
                ..Session::default()
            }),
            root: Some(kdev_proto::v1::RootStatus {
                carriers: vec![carrier(1), carrier(2)],
                ..Default::default()
            }),
            ..Status::default()
        };
        let ids: Vec<u32> = view(&status).carriers.iter().map(|one| one.id).collect();
        assert_eq!(ids, [0, 1, 2]);
    }

    #[test]
    fn a_round_trip_that_nobody_measured_isnt_shown() {
        let carrier = |id, round_trip_us| CarrierStatus {
            id,
            kind: "direct".to_owned(),
            round_trip_us,
            ..CarrierStatus::default()
        };
        let status = Status {
            root: Some(kdev_proto::v1::RootStatus {
                carriers: vec![carrier(1, 0), carrier(2, 1_234)],
                ..Default::default()
            }),
            ..Status::default()
        };
        let view = view(&status);
        let details: Vec<String> = rows(&view, 0)
            .into_iter()
            .filter(|[name, ..]| name.starts_with("carrier"))
            .map(|[.., detail]| detail)
            .collect();
        assert_eq!(details, ["direct, 0 flows; ", "direct, 1.2 ms, 0 flows; "]);
        let json = serde_json::to_value(&view.carriers).unwrap();
        assert!(json[0].get("round_trip_us").is_none(), "{json}");
        assert_eq!(json[1]["round_trip_us"], 1_234);
    }
}
