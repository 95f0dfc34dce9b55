//! Noticing that somebody writes the file, or what it was made from (inotify(7)).

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::super::{ResolverError, UPLINKS};

/// A watch on the directories of the file, of the file that it is a link to, and of
/// systemd-resolved's list of servers; and on the file itself in case it is mounted there and
/// written elsewhere.
#[derive(Debug)]
pub(in crate::resolver) struct Watch {
    inotify: AsyncFd<Descriptor>,
    path: PathBuf,
    dirs: HashMap<WatchDescriptor, Dir>,
}

/// A directory, and what matters of it.
#[derive(Debug)]
struct Dir {
    path: PathBuf,
    names: BTreeSet<OsString>,
}

#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    /// Watches `path`, and `target`, to which it was a link before.
    pub(in crate::resolver) fn new(
        path: &Path,
        target: Option<&Path>,
    ) -> Result<Self, ResolverError> {
        let open = || -> io::Result<AsyncFd<Descriptor>> {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            let inotify = Descriptor(inotify);
            // SAFETY: an Inotify always gives the same descriptor, and closes it when dropped.
            Ok(unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }?)
        };
        let mut watch = Self {
            inotify: open().map_err(|source| failed(path, source))?,
            path: path.to_owned(),
            dirs: HashMap::new(),
        };
        watch
            .watch_dir_of(path)
            .map_err(|errno| failed(path, errno.into()))?;
        for source in target.into_iter().chain([Path::new(UPLINKS)]) {
            watch.watch_source(source)?;
        }
        watch.follow()?;
        Ok(watch)
    }

    pub(in crate::resolver) async fn changed(&mut self) -> Result<(), ResolverError> {
        loop {
            let mut ready = self
                .inotify
                .readable()
                .await
                .map_err(|source| failed(&self.path, source))?;
            let events = ready.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?));
            match events {
                Ok(Ok(events)) if events.iter().any(|event| self.concerns(event)) => {
                    return self.follow();
                }
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => return Err(failed(&self.path, error)),
            }
        }
    }

    /// Watches what is there by now: another file, or a link to somewhere else.
    fn follow(&mut self) -> Result<(), ResolverError> {
        if let Ok(target) = fs::read_link(&self.path) {
            return self.watch_source(&self.path.with_file_name("").join(target));
        }
        match self
            .inotify
            .get_ref()
            .0
            .add_watch(&self.path, AddWatchFlags::IN_CLOSE_WRITE)
        {
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(failed(&self.path, errno.into())),
        }
    }

    fn watch_source(&mut self, source: &Path) -> Result<(), ResolverError> {
        match self.watch_dir_of(source) {
            // Its keeper doesn't run, or there is none.
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(errno) => Err(failed(source, errno.into())),
        }
    }

    fn watch_dir_of(&mut self, path: &Path) -> nix::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        // Not IN_MODIFY: who writes in place has emptied the file at first.
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_ONLYDIR;
        let descriptor = self.inotify.get_ref().0.add_watch(dir, events)?;
        let dir = self.dirs.entry(descriptor).or_insert_with(|| Dir {
            path: dir.to_owned(),
            names: BTreeSet::new(),
        });
        dir.names
            .insert(path.file_name().unwrap_or_default().to_owned());
        Ok(())
    }

    fn concerns(&self, event: &InotifyEvent) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        match (event.name.as_ref(), self.dirs.get(&event.wd)) {
            (Some(name), Some(dir)) if dir.names.contains(name) => {
                // A file that is only just made will be closed when it is complete; a link is complete.
                !event.mask.contains(AddWatchFlags::IN_CREATE) || dir.path.join(name).is_symlink()
            }
            (Some(_), _) => false,
            (None, _) => event.mask.contains(AddWatchFlags::IN_CLOSE_WRITE),
        }
    }
}

fn failed(path: &Path, source: io::Error) -> ResolverError {
    ResolverError::Watch {
        path: path.to_owned(),
        source,
    }
}
