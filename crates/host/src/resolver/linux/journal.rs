//! What has to be undone, on disk before it is done.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::super::ResolverError;
use super::file::{Content, Present, sync_dir};

const NAME: &str = "resolv.conf.json";
const VERSION: u32 = 1;

/// One change of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    version: u32,
    /// The process that made the change; see [`this_process`].
    pub(super) owner: String,
    path: Text,
    former: Former,
    written: Text,
    /// What this is about to replace, if kdev has written that as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Text>,
}

/// [`Present`] as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Former {
    Missing,
    File {
        content: Text,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Symlink {
        target: Text,
    },
}

/// Bytes that are text as a rule, so that a person can read the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Bytes(error.into_bytes()), Self::Text)
    }
}

impl From<&Path> for Text {
    fn from(path: &Path) -> Self {
        path.as_os_str().as_bytes().to_vec().into()
    }
}

impl Text {
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    fn into_path(self) -> PathBuf {
        OsString::from_vec(self.into_bytes()).into()
    }
}

impl Journal {
    /// Notes that this process replaces `former` by a file with `written`.
    pub(super) fn new(path: &Path, former: &Present, written: &[u8]) -> Self {
        let former = match former.clone() {
            Present::Missing => Former::Missing,
            Present::File(Content {
                bytes,
                mode,
                uid,
                gid,
            }) => Former::File {
                content: bytes.into(),
                mode,
                uid,
                gid,
            },
            Present::Symlink(target) => Former::Symlink {
                target: target.as_path().into(),
            },
        };
        Self {
            version: VERSION,
            owner: this_process().to_owned(),
            path: path.into(),
            former,
            written: written.to_vec().into(),
            before: None,
        }
    }

    /// Notes that this process replaces its own file by one with `written`.
    pub(super) fn then(self, written: &[u8]) -> Self {
        Self {
            before: Some(self.written),
            written: written.to_vec().into(),
            ..self
        }
    }

    /// The file that was changed.
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone().into_path()
    }

    /// What was there.
    pub(super) fn former(&self) -> Present {
        match self.former.clone() {
            Former::Missing => Present::Missing,
            Former::File {
                content,
                mode,
                uid,
                gid,
            } => Present::File(Content {
                bytes: content.into_bytes(),
                mode,
                uid,
                gid,
            }),
            Former::Symlink { target } => Present::Symlink(target.into_path()),
        }
    }

    /// What was written in its place.
    pub(super) fn written(&self) -> Vec<u8> {
        self.written.clone().into_bytes()
    }

    /// Whether these bytes are a file that kdev has written.
    pub(super) fn wrote(&self, bytes: &[u8]) -> bool {
        let all = [Some(&self.written), self.before.as_ref()];
        all.into_iter()
            .flatten()
            .any(|written| written.clone().into_bytes() == bytes)
    }
}

/// A name for this process that no later process has, as a number alone could.
pub(super) fn this_process() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        format!("{}-{}", std::process::id(), now.as_nanos())
    })
}

/// The place of the journal, held by one process at a time.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Store {
    /// Waits for the place in `dir`, which is made.
    pub(super) fn open(dir: &Path) -> Result<Self, ResolverError> {
        let path = path(dir);
        let failed = failed("lock", &path);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(&failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(dir.join("resolv.conf.lock"))
            .map_err(&failed)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, errno)| failed(errno.into()))?;
        Ok(Self { path, _lock: lock })
    }

    /// Reads the journal, if there is one.
    pub(super) fn load(&self) -> Result<Option<Journal>, ResolverError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &self.path)(error)),
        };
        let understand = failed("understand", &self.path);
        let journal: Journal =
            serde_json::from_slice(&bytes).map_err(|error| understand(error.into()))?;
        if journal.version != VERSION {
            let why = format!("it has version {}, not {VERSION}", journal.version);
            return Err(understand(io::Error::other(why)));
        }
        Ok(Some(journal))
    }

    /// Writes the journal; when this returns, it is on the disk.
    pub(super) fn save(&self, journal: &Journal) -> Result<(), ResolverError> {
        let write = || {
            let temporary = self.path.with_extension("new");
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&serde_json::to_vec_pretty(journal)?)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)
        };
        write().map_err(failed("write", &self.path))?;
        sync_dir(&self.path);
        Ok(())
    }

    /// Removes the journal.
    pub(super) fn clear(&self) -> Result<(), ResolverError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(failed("remove", &self.path)(error))
            }
            _ => {
                sync_dir(&self.path);
                Ok(())
            }
        }
    }

    /// Where the journal is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Where the journal in `dir` is.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

fn failed(step: &'static str, path: &Path) -> impl Fn(io::Error) -> ResolverError + use<> {
    let path = path.to_owned();
    move |source| ResolverError::Journal {
        step,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(former: &Present, written: &[u8]) -> Journal {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state")).unwrap();
        assert_eq!(store.load().unwrap(), None);
        let journal = Journal::new(Path::new("/etc/x"), former, written);
        store.save(&journal).unwrap();
        let loaded = store.load().unwrap().unwrap();
        store.clear().unwrap();
        assert_eq!(store.load().unwrap(), None);
        loaded
    }

    #[test]
    fn every_byte_comes_back() {
        let formers = [
            Present::Missing,
            Present::Symlink("../run/x".into()),
            Present::Symlink(OsString::from_vec(vec![b'x', 0xff]).into()),
            Present::File(Content {
                bytes: b"a\r\n".to_vec(),
                mode: 0o640,
                uid: 7,
                gid: 8,
            }),
            Present::File(Content::new(vec![0, 0xff, b'\n'])),
        ];
        for former in formers {
            for written in [&b"nameserver 1.2.3.4\n"[..], &[0xfe]] {
                let journal = kept(&former, written);
                assert_eq!(journal.former(), former);
                assert_eq!(journal.written(), written);
                assert_eq!(journal.path(), Path::new("/etc/x"));
                assert_eq!(journal.owner, this_process());
            }
        }
    }

    #[test]
    fn a_journal_of_another_release_is_not_guessed_at() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let journal = Journal::new(Path::new("/etc/x"), &Present::Missing, b"");
        store
            .save(&Journal {
                version: 2,
                ..journal
            })
            .unwrap();
        assert!(matches!(
            store.load(),
            Err(ResolverError::Journal {
                step: "understand",
                ..
            })
        ));
    }
}
