//! Whose session has the machine's network, where it may be somebody else's.

use kdev_common::person;
use kdev_proto::Failure;
use kdev_proto::v1::{ErrorKind, RootStatus};
use nix::unistd::Uid;

use crate::process;

/// The user daemon whose session has the machine's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    uid: u32,
    pid: u32,
}

impl Holder {
    /// Who has it by the root daemon's word; `None` where nobody has, or whoever had it is dead, which the root
    /// daemon may not have noticed yet.
    pub fn living(status: &RootStatus) -> Option<Self> {
        let holder = Self {
            uid: status.owner_uid,
            pid: status.holder_pid,
        };
        (!status.session.is_empty() && process::runs(holder.pid)).then_some(holder)
    }

    /// Whether it is a daemon of the user who runs this command.
    pub fn is_of_this_user(&self) -> bool {
        self.uid == Uid::effective().as_raw()
    }

    /// Why `what` can't be done while that session is there.
    pub fn in_the_way(&self, what: &str) -> Failure {
        let Self { uid, pid } = self;
        let next = if self.is_of_this_user() {
            format!(
                "run `kdev quit` with the XDG_RUNTIME_DIR (or the HOME, where there is none) that it was made with; \
                 `kill {pid}` ends it as well"
            )
        } else {
            "that user ends it with `kdev quit`".to_owned()
        };
        Failure::new(
            ErrorKind::Conflict,
            what,
            format!(
                "a session of {} has this machine's network, held by kdev-userd with pid {pid}",
                person::user(*uid)
            ),
            next,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(uid: u32, pid: u32) -> RootStatus {
        RootStatus {
            session: "s".to_owned(),
            owner_uid: uid,
            holder_pid: pid,
            ..RootStatus::default()
        }
    }

    #[test]
    fn only_a_session_whose_daemon_lives_is_in_the_way() {
        let alive = std::process::id();
        assert!(Holder::living(&held_by(1, alive)).is_some());
        assert_eq!(Holder::living(&held_by(1, 0)), None);
        let none = RootStatus {
            session: String::new(),
            ..held_by(1, alive)
        };
        assert_eq!(Holder::living(&none), None);
    }

    #[test]
    fn whoever_is_in_the_way_is_named_with_the_way_out() {
        let own = Uid::effective().as_raw();
        let failure = Holder { uid: own, pid: 5 }.in_the_way("can't");
        assert_eq!(failure.exit_code(), 11);
        assert!(failure.next.contains("kill 5"), "{}", failure.next);
        let other = own + 1;
        let failure = Holder { uid: other, pid: 5 }.in_the_way("can't");
        let named = failure.why.contains(&format!("uid {other}"));
        assert!(named, "{}", failure.why);
        assert!(failure.next.contains("that user"), "{}", failure.next);
    }
}
