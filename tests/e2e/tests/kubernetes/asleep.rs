//! A machine that sleeps for longer than a moment keeps what it holds; one that sleeps on gets it back when it is awake.

use std::thread::sleep;
use std::time::Duration;

use kdev_e2e::desk::Desk;
use kdev_e2e::http::who_answers;
use kdev_e2e::wait;
use kdev_e2e::workload::Workload;

/// A nap: longer than connections last that nobody answers on, and shorter than what is forgiven.
const NAP: Duration = Duration::from_secs(50);
/// How much longer it takes until what it holds is given back.
const GIVEN_BACK: Duration = Duration::from_secs(30);
/// How long what is to come back may take.
const BACK: Duration = Duration::from_secs(30);

fn replicas(desk: &Desk, web: &Workload<'_>) -> serde_json::Value {
    let deployment = ["-n", web.namespace(), "deployment", "web"];
    desk.cluster.get(&deployment)["spec"]["replicas"].clone()
}

#[test]
fn what_a_sleeping_machine_holds_is_kept_for_a_minute_and_taken_again_when_it_is_awake() {
    let (desk, web) = Desk::beside("asleep");
    let other = web.add_single("other");
    let _program = desk.laptop.serve(9000);
    desk.kdev(&["intercept", "web", "--port", "9000:http"]).ok();
    desk.kdev(&["replace", "other", "--port", "9000:http"]).ok();
    let led_away = || web.service()["spec"]["selector"].is_null();
    let who = |address| desk.cluster.node().inside(|| who_answers(address)).ok();

    desk.laptop.suspend();
    sleep(NAP);
    assert!(
        led_away() && replicas(&desk, &web) == 0,
        "given back too soon"
    );
    wait::until_true("the pods have what is theirs", GIVEN_BACK, || {
        !led_away() && replicas(&desk, &web) == 2
    });
    desk.laptop.wake();
    // Nothing is said to work that doesn't, from the first look on.
    let shown = desk.status();
    let works = |shown: &serde_json::Value| {
        let all = shown["intercepts"].as_array().unwrap();
        all.iter().all(|one| one["state"] == "ok")
    };
    assert!(!works(&shown), "{shown:#}");
    for address in [web.address(80), other] {
        wait::until_true("connections come to the machine again", BACK, || {
            who(address).as_deref() == Some("the-laptop")
        });
    }
    wait::until_true("its workload rests again, and all is well", BACK, || {
        replicas(&desk, &web) == 0 && works(&desk.status())
    });
    desk.kdev(&["quit"]).ok();
    assert_eq!(replicas(&desk, &web), 2);
    web.assert_untouched();
}
