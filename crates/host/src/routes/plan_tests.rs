use super::*;

/// What the rows of the table call a machine's route.
fn route(prefix: &str, owner: &str) -> LocalRoute {
    LocalRoute {
        prefix: prefix.parse().unwrap(),
        owner: owner.to_owned(),
        via: None,
        table: MAIN_TABLE,
        kind: RouteKind::Unicast,
    }
}

fn own_address(address: &str, owner: &str) -> LocalRoute {
    LocalRoute {
        kind: RouteKind::Local,
        table: 255,
        ..route(address, owner)
    }
}

fn via(route: LocalRoute, gateway: &str) -> LocalRoute {
    LocalRoute {
        via: Some(gateway.parse().unwrap()),
        ..route
    }
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn desired(prefixes: &[&str], exempt: &[&str]) -> DesiredRoutes {
    DesiredRoutes {
        prefixes: nets(prefixes),
        exempt: nets(exempt),
    }
}

struct Row {
    name: &'static str,
    prefix: &'static str,
    exempt: &'static [&'static str],
    others: Vec<LocalRoute>,
    installed: &'static [&'static str],
    conflicts: &'static [(&'static str, &'static str, Answer)],
}

fn table() -> Vec<Row> {
    let row = || Row {
        name: "",
        prefix: "10.96.0.0/12",
        exempt: &[],
        others: Vec::new(),
        installed: &["10.96.0.0/12"],
        conflicts: &[],
    };
    vec![
        Row {
            name: "a prefix that nobody else has is installed",
            ..row()
        },
        Row {
            name: "default routes and their halves are no conflict",
            others: vec![
                via(route("0.0.0.0/0", "eth0"), "192.168.1.1"),
                route("0.0.0.0/1", "tun0"),
                route("128.0.0.0/1", "tun0"),
                route("::/0", "eth0"),
            ],
            ..row()
        },
        Row {
            name: "an exempt address is carved out",
            prefix: "10.96.0.0/30",
            exempt: &["10.96.0.1/32"],
            installed: &["10.96.0.0/32", "10.96.0.2/31"],
            ..row()
        },
        Row {
            name: "a gateway is exempt without being named",
            prefix: "10.96.0.0/30",
            others: vec![via(route("0.0.0.0/0", "eth0"), "10.96.0.1")],
            installed: &["10.96.0.0/32", "10.96.0.2/31"],
            ..row()
        },
        Row {
            name: "a larger exemption leaves nothing",
            exempt: &["10.0.0.0/8"],
            installed: &[],
            ..row()
        },
        Row {
            name: "a more specific route keeps its addresses by itself",
            others: vec![route("10.100.0.0/16", "docker0")],
            conflicts: &[("10.100.0.0/16", "docker0", Answer::PartKept)],
            ..row()
        },
        Row {
            name: "a piece around an exempt address doesn't take from a more specific route",
            prefix: "10.96.0.0/29",
            exempt: &["10.96.0.5/32"],
            others: vec![route("10.96.0.4/30", "wg0")],
            installed: &["10.96.0.0/30"],
            conflicts: &[("10.96.0.4/30", "wg0", Answer::PartKept)],
        },
        Row {
            name: "an equal route is left to its owner",
            others: vec![route("10.96.0.0/12", "wg0"), route("10.0.0.0/8", "eth0")],
            installed: &[],
            conflicts: &[("10.96.0.0/12", "wg0", Answer::LeftToOwner)],
            ..row()
        },
        Row {
            name: "an equal route is left to its owner when addresses are exempt, too",
            exempt: &["10.96.0.1/32"],
            others: vec![route("10.96.0.0/12", "wg0")],
            installed: &[],
            conflicts: &[("10.96.0.0/12", "wg0", Answer::LeftToOwner)],
            ..row()
        },
        Row {
            name: "a less specific route gives way",
            others: vec![route("10.0.0.0/8", "eth0"), route("10.64.0.0/10", "wg0")],
            conflicts: &[
                ("10.0.0.0/8", "eth0", Answer::Installed),
                ("10.64.0.0/10", "wg0", Answer::Installed),
            ],
            ..row()
        },
        Row {
            name: "the machine's own address stays",
            others: vec![own_address("10.97.3.4/32", "eth0")],
            conflicts: &[("10.97.3.4/32", "eth0", Answer::OwnAddress)],
            ..row()
        },
        Row {
            name: "the machine's own address is told by its network",
            others: vec![
                own_address("10.97.3.4/32", "eth0"),
                route("10.97.3.0/24", "eth0"),
            ],
            conflicts: &[("10.97.3.0/24", "eth0", Answer::PartKept)],
            ..row()
        },
        Row {
            name: "a route in another table is left to what the kernel says",
            others: vec![LocalRoute {
                table: 52,
                ..route("10.96.0.0/12", "tailscale0")
            }],
            ..row()
        },
        Row {
            name: "a blackhole is an owner like any other",
            others: vec![LocalRoute {
                kind: RouteKind::Blocked,
                ..route("10.96.0.0/12", "blackhole")
            }],
            installed: &[],
            conflicts: &[("10.96.0.0/12", "blackhole", Answer::LeftToOwner)],
            ..row()
        },
        Row {
            name: "two next hops of one device are one conflict",
            others: vec![
                route("10.100.0.0/16", "eth0"),
                route("10.100.0.0/16", "eth0"),
            ],
            conflicts: &[("10.100.0.0/16", "eth0", Answer::PartKept)],
            ..row()
        },
        Row {
            name: "the other family is nobody's concern",
            prefix: "fd00:96::/108",
            exempt: &["10.96.0.1/32"],
            others: vec![route("10.96.0.0/12", "wg0")],
            installed: &["fd00:96::/108"],
            conflicts: &[],
        },
    ]
}

#[test]
fn each_row_of_the_table_is_placed_as_it_says() {
    for row in table() {
        let states = plan(&desired(&[row.prefix], row.exempt), &row.others, true);
        assert_eq!(states.len(), 1, "{}", row.name);
        let state = &states[0];
        assert_eq!(state.installed, nets(row.installed), "{}", row.name);
        assert_eq!(state.problem, None, "{}", row.name);
        let conflicts: Vec<(String, &str, Answer)> = state
            .conflicts
            .iter()
            .map(|conflict| {
                (
                    conflict.with.to_string(),
                    conflict.owner.as_str(),
                    conflict.answer,
                )
            })
            .collect();
        let expected: Vec<(String, &str, Answer)> = row
            .conflicts
            .iter()
            .map(|(with, owner, answer)| ((*with).to_owned(), *owner, *answer))
            .collect();
        assert_eq!(conflicts, expected, "{}", row.name);
    }
}

#[test]
fn exempt_addresses_within_a_prefix_are_reported() {
    let states = plan(
        &desired(&["10.96.0.0/12"], &["10.96.0.1/32", "192.168.0.1/32"]),
        &[],
        true,
    );
    assert_eq!(states[0].exempted, nets(&["10.96.0.1/32"]));
}

#[test]
fn what_is_no_cluster_s_is_refused() {
    let refused = |prefix: &str, ipv6: bool| {
        let state = plan(&desired(&[prefix], &[]), &[], ipv6).remove(0);
        assert_eq!(state.installed, Vec::new(), "{prefix}");
        state.problem.unwrap()
    };
    for wide in ["0.0.0.0/0", "128.0.0.0/1", "10.0.0.0/7", "::/0", "2000::/3"] {
        assert_eq!(
            refused(wide, true),
            Problem::TooWide(wide.parse::<IpNet>().unwrap().trunc())
        );
    }
    for reserved in [
        "127.0.0.53/32",
        "169.254.169.254/32",
        "224.0.0.0/24",
        "fe80::/64",
        "::1/128",
    ] {
        assert!(
            matches!(refused(reserved, true), Problem::NeverRouted(_)),
            "{reserved}"
        );
    }
    assert_eq!(refused("fd00:96::/108", false), Problem::NoIpv6);
}

#[test]
fn a_prefix_named_twice_is_one() {
    let states = plan(&desired(&["10.96.0.0/12", "10.97.0.0/12"], &[]), &[], true);
    assert_eq!(states.len(), 1);
}

#[test]
fn the_difference_is_what_has_to_change() {
    let set = |texts: &[&str]| nets(texts).into_iter().collect();
    let (add, remove) = difference(
        &set(&["10.0.0.0/9", "10.1.0.0/16"]),
        &set(&["10.1.0.0/16", "10.2.0.0/16"]),
    );
    assert_eq!(
        (add, remove),
        (nets(&["10.0.0.0/9"]), nets(&["10.2.0.0/16"]))
    );
}

#[test]
fn a_sample_is_an_address_that_is_ours_alone() {
    let others = [route("10.96.0.0/13", "wg0"), route("10.0.0.0/8", "eth0")];
    let state = plan(&desired(&["10.96.0.0/12"], &[]), &others, true).remove(0);
    assert_eq!(sample(&state, &others), Some("10.104.0.0".parse().unwrap()));
}

#[test]
fn a_conflict_reads_as_a_sentence() {
    let conflict = |answer, via: Option<&str>| Conflict {
        with: "10.0.0.0/8".parse().unwrap(),
        owner: "eth0".to_owned(),
        via: via.map(|via| via.parse().unwrap()),
        answer,
    };
    let table = [
        (
            conflict(Answer::PartKept, None),
            "10.0.0.0/8 stays with eth0",
        ),
        (
            conflict(Answer::LeftToOwner, None),
            "left to eth0, which has exactly 10.0.0.0/8",
        ),
        (
            conflict(Answer::Installed, Some("192.168.1.1")),
            "taken out of 10.0.0.0/8 of eth0 (via 192.168.1.1)",
        ),
        (
            conflict(Answer::OwnAddress, None),
            "10.0.0.0 is this machine's own address on eth0",
        ),
        (
            conflict(Answer::Shadowed, None),
            "a routing rule of this machine sends it to eth0 (10.0.0.0/8)",
        ),
    ];
    for (conflict, text) in table {
        assert_eq!(conflict.to_string(), text);
    }
}
