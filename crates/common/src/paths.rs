//! Where kdev's sockets, journals and logs are.

use std::path::PathBuf;

use directories::ProjectDirs;
use nix::unistd::Uid;

/// Directory of the root daemon's sockets; made by it, traversable by all, writable by root.
pub const ROOT_RUN_DIR: &str = "/run/kdev";
/// Directory of what the root daemon must find again after a crash.
pub const ROOT_STATE_DIR: &str = "/var/lib/kdev";
/// Directory of the root daemon's log.
pub const ROOT_LOG_DIR: &str = "/var/log/kdev";

/// Socket on which the root daemon takes commands.
pub fn root_socket() -> PathBuf {
    PathBuf::from(ROOT_RUN_DIR).join("rootd.sock")
}

/// Socket on which the root daemon takes carriers: raw bytes, no gRPC of its own.
pub fn carrier_socket() -> PathBuf {
    PathBuf::from(ROOT_RUN_DIR).join("carrier.sock")
}

/// Directories of the user who runs this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDirs {
    /// Sockets and locks: gone after a reboot.
    pub run: PathBuf,
    /// Logs.
    pub state: PathBuf,
}

impl UserDirs {
    /// Finds them by the XDG base directory specification; `None` for a user without a home.
    pub fn find() -> Option<Self> {
        let project = ProjectDirs::from("", "", "kdev")?;
        let state = project
            .state_dir()
            .unwrap_or_else(|| project.data_local_dir())
            .to_owned();
        let login = PathBuf::from(format!("/run/user/{}/kdev", Uid::effective()));
        let run = match project.runtime_dir() {
            Some(dir) => dir.to_owned(),
            // Without XDG_RUNTIME_DIR (su, cron, ssh without a session manager) the same user must
            // still find the daemon that a login shell started.
            None if login.parent().is_some_and(std::path::Path::is_dir) => login,
            None => project.cache_dir().join("run"),
        };
        Some(Self { run, state })
    }

    /// Socket on which the user's daemon takes commands.
    pub fn socket(&self) -> PathBuf {
        self.run.join("userd.sock")
    }
}
