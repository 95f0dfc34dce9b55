//! What is in the place of a file, and putting something else there.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::super::ResolverError;

/// Nobody's settings are larger; a link to a device would have no end.
const MAX_LENGTH: u64 = 1024 * 1024;

/// What is in the place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Present {
    Missing,
    File(Content),
    Symlink(PathBuf),
}

/// A file with everything that putting it back needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Content {
    /// A file for everyone to read.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            mode: 0o644,
            uid: 0,
            gid: 0,
        }
    }
}

/// Looks at what is there.
pub(super) fn look(path: &Path) -> Result<Present, ResolverError> {
    let failed = |source| ResolverError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Present::Missing),
        Err(error) => return Err(failed(error)),
    };
    if metadata.is_symlink() {
        return Ok(Present::Symlink(fs::read_link(path).map_err(failed)?));
    }
    if !metadata.is_file() {
        return Err(ResolverError::NotAFile {
            path: path.to_owned(),
        });
    }
    Ok(Present::File(Content {
        bytes: read(path).map_err(failed)?,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    }))
}

/// Reads a file through links; one that isn't there is empty.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_LENGTH).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(bytes)
}

/// Whether something is mounted right there, as container runtimes do.
pub(super) fn is_mount_point(path: &Path) -> bool {
    // The fifth field is the mount point, with spaces and the like in octal (proc_pid_mountinfo(5)).
    let wanted: String = path
        .to_string_lossy()
        .chars()
        .map(|c| match c {
            ' ' | '\t' | '\n' | '\\' => format!("\\{:03o}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    fs::read_to_string("/proc/thread-self/mountinfo").is_ok_and(|mounts| {
        mounts
            .lines()
            .any(|mount| mount.split(' ').nth(4) == Some(&wanted))
    })
}

/// Puts something in the place of whatever is there, at once where that is possible.
pub(super) fn put(path: &Path, wanted: &Present) -> io::Result<()> {
    match wanted {
        Present::Missing => match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        },
        Present::Symlink(target) => {
            let temporary = temporary(path);
            remove_temporary(path);
            std::os::unix::fs::symlink(target, &temporary)?;
            rename(&temporary, path)
        }
        Present::File(content) => match put_file(path, content) {
            // A mount point can't be replaced (EBUSY); and a directory may be read-only while the
            // file that is mounted in it isn't. What another program needs to be told is told by
            // the attempt to write in place.
            Err(_) if is_plain_file(path) => overwrite(path, &content.bytes),
            done => done,
        },
    }
}

fn is_plain_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

fn put_file(path: &Path, content: &Content) -> io::Result<()> {
    let temporary = temporary(path);
    remove_temporary(path);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&content.bytes)?;
        std::os::unix::fs::fchown(&file, Some(content.uid), Some(content.gid))?;
        // After the owner, whose change takes special bits away.
        file.set_permissions(Permissions::from_mode(content.mode))?;
        file.sync_all()
    };
    write()
        .and_then(|()| rename(&temporary, path))
        .inspect_err(|_| remove_temporary(path))
}

/// Writes over a file from its beginning, so that it isn't empty at any moment.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

/// What [`overwrite`] has made of a file when it was ended between its two steps.
pub(super) fn half_overwritten(new: &[u8], old: &[u8]) -> Vec<u8> {
    let rest = old.get(new.len()..).unwrap_or_default();
    [new, rest].concat()
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to).inspect_err(|_| {
        let _ = fs::remove_file(from);
    })?;
    sync_dir(to);
    Ok(())
}

/// Makes the names in the directory of `path` last; some file systems can't, and need not.
pub(super) fn sync_dir(path: &Path) {
    if let Some(dir) = path.parent() {
        let _ = File::open(dir).and_then(|dir| dir.sync_all());
    }
}

/// Removes what a crash may have left beside the file.
pub(super) fn remove_temporary(path: &Path) {
    let _ = fs::remove_file(temporary(path));
}

/// One fixed name, so that a crash leaves at most one file, and it can be found.
fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".kdev");
    path.with_file_name(name)
}
