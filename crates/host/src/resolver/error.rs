//! Why the resolver's settings couldn't be made or undone.

use std::io;
use std::path::PathBuf;

use crate::Unsupported;

/// Why the machine's DNS settings couldn't be made, watched or undone.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// This system isn't supported.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The present settings can't be read.
    #[error("can't read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is something else where the file should be.
    #[error("{path} is neither a file nor a symbolic link to one")]
    NotAFile {
        /// What should be the file.
        path: PathBuf,
    },
    /// The file can't be written.
    #[error("can't write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The former settings can't be put back.
    #[error("can't put the former {path} back; its content is in {journal}")]
    Restore {
        /// The file.
        path: PathBuf,
        /// The journal, which stays.
        journal: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The journal can't be used.
    #[error("can't {step} the journal {path}")]
    Journal {
        /// "read", "write", "remove", "lock" or "understand".
        step: &'static str,
        /// The journal.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file can't be watched.
    #[error("can't watch {path}")]
    Watch {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The guard can't be started.
    #[error("can't start the guard {program}")]
    Guard {
        /// Its program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ResolverError {
    /// What a person can do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Unsupported(_) => "use kdev on Linux",
            Self::Write { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                "mount it writable; in a container, mount a writable file over it"
            }
            Self::Write { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run the daemon as root, and look whether the file is immutable (`lsattr`)"
            }
            Self::Read { .. } | Self::NotAFile { .. } | Self::Write { .. } => {
                "put the file into order, then connect again"
            }
            Self::Restore { .. } => {
                "make it writable, then start kdev again, or copy the content by hand"
            }
            Self::Journal {
                step: "understand", ..
            } => "put the resolver's file into order by hand, then remove the journal",
            Self::Journal { .. } => "make its directory writable for root",
            Self::Watch { .. } => {
                "raise fs.inotify.max_user_instances; changes by others go unnoticed until then"
            }
            Self::Guard { .. } => "install kdev's programs again, side by side",
        }
    }
}
