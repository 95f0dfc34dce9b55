//! Points where a test has a daemon die, to show that whoever comes after puts right what it was doing.
//!
//! Nothing happens at them unless the environment of a process names a file ([`FILE`]). Then each point looks into
//! it, and where it finds its own name it removes the file and ends the process as `kill -9` does: once, so that
//! the next process lives. Who may set a daemon's environment and write its files could have ended it as well.
//!
//! Only `kdev-userd` and the traffic manager are ever [armed](arm). The root daemon isn't: nobody but root may end
//! it.

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The variable that names the file.
pub const FILE: &str = "KDEV_FAULT_FILE";

static ARMED: OnceLock<PathBuf> = OnceLock::new();

/// Whose point it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// `kdev-userd`.
    User,
    /// The traffic manager.
    Manager,
}

macro_rules! points {
    ($($point:ident $process:ident $name:literal, $text:literal;)*) => {
        /// A moment in the life of an intercept.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point {
            $(#[doc = $text] $point,)*
        }

        impl Point {
            /// All of them, in the order in which an intercept passes them.
            pub const ALL: &[Self] = &[$(Self::$point),*];

            /// Its name, as it stands in the file.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }

            /// Whose it is.
            pub fn process(self) -> Process {
                match self {
                    $(Self::$point => Process::$process,)*
                }
            }
        }
    };
}

points! {
    // The user's daemon switches on.
    Checked User "checked", "Nothing is in the way, and nothing has changed yet.";
    Claimed User "claimed", "The claim stands on the Service.";
    PreviewMade User "preview-made", "The Service of a preview is made, and its claim with it.";
    Asked User "asked", "The manager was asked for the claim's connections.";
    ReportedActive User "reported-active", "The manager said that it works; the command doesn't know yet.";
    ScaledDown User "scaled-down", "A workload has no replicas any more.";
    // The manager switches on.
    StartHeard Manager "start-heard", "A session asks for a claim's connections.";
    ClaimSeen Manager "claim-seen", "The API server shows the claim.";
    Joined Manager "joined", "The router has a port, and knows whose it is.";
    SliceCreated Manager "slice-created", "An own slice is made, for the ports that stay with the pods.";
    MirroringStopped Manager "mirroring-stopped", "The Endpoints object isn't mirrored any more.";
    SelectorCleared Manager "selector-cleared", "The selector is cleared, and saved.";
    SliceUpdated Manager "slice-updated", "A slice leads to the router, or back to the pods.";
    Redirected Manager "redirected", "The Service leads to the router, and nobody knows.";
    Proven Manager "proven", "A probe has arrived, and nobody knows.";
    // The user's daemon switches off.
    ScaledBack User "scaled-back", "Workloads have their replicas again.";
    Released User "released", "The claim is gone from the Service.";
    AskedToLeave User "asked-to-leave", "The manager was told.";
    RestoredSeen User "restored-seen", "The Service is as it was, and the command doesn't know yet.";
    PreviewDeleted User "preview-deleted", "The Service of a preview is gone, and the command doesn't know yet.";
    // The manager switches off.
    Left Manager "left", "The router passes everything to the pods.";
    PutBack Manager "put-back", "What came with the intercept is put back.";
    SelectorRestored Manager "selector-restored", "The selector is back.";
    SliceDeleted Manager "slice-deleted", "An own slice is deleted.";
    MirroringAllowed Manager "mirroring-allowed", "The Endpoints object may be mirrored again.";
    AnnotationDropped Manager "annotation-dropped", "No annotation of ours is left.";
    RestoredReported Manager "restored-reported", "The session was told that the Service is as it was.";
    // A session is over, a manager ends, or is gone.
    SessionOver Manager "session-over", "A session stayed away for too long; nothing is undone yet.";
    HandOver Manager "hand-over", "The manager is to end; Services lead to it still.";
    HandedOver Manager "handed-over", "The manager is to end; Services lead to their pods.";
    Unattended User "unattended", "No manager is ready; the Service leads to one still.";
    PutBackUnattended User "put-back-unattended", "No manager is ready; the Service leads to its pods.";
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Has the points of this process look for their names, where its environment names a file.
pub fn arm() {
    if let Some(file) = std::env::var_os(FILE) {
        let _ = ARMED.set(file.into());
    }
}

/// Passes a point; ends the process where a test wants that.
pub fn point(point: Point) {
    let Some(file) = ARMED.get() else {
        return;
    };
    let named = std::fs::read_to_string(file).is_ok_and(|name| name.trim() == point.name());
    // Of several threads at the point, one is enough; where the file can't be removed, the next process would die
    // as well.
    if named && std::fs::remove_file(file).is_ok() {
        let _ = kill(Pid::this(), Signal::SIGKILL);
        // The first process of a container can't be killed from within (pid_namespaces(7)).
        // SAFETY: _exit(2) takes a number and doesn't come back.
        unsafe { libc::_exit(128 + Signal::SIGKILL as libc::c_int) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
    }

    #[test]
    fn a_point_is_passed_where_nobody_armed_it() {
        point(Point::Claimed);
    }
}
