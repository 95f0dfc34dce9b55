//! `/etc/resolv.conf`.

mod file;
mod guard;
mod journal;
mod watch;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub(in crate::resolver) use self::guard::{Guard, run_guard};
pub(in crate::resolver) use self::watch::Watch;

use self::file::{Content, Present};
use self::journal::{Journal, Store};
use super::config::compose;
use super::{Applied, Place, ResolverConfig, ResolverError, ResolverFacts, Restored};
use super::{UPLINKS, choose};

/// The settings of one file.
#[derive(Debug)]
pub(super) struct ResolvConf {
    path: PathBuf,
    dir: PathBuf,
    made: Option<Settings>,
}

/// What is made of what was there before.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settings {
    server: IpAddr,
    applied: Applied,
    written: Vec<u8>,
}

impl ResolvConf {
    pub(super) fn new(path: PathBuf, dir: PathBuf) -> Self {
        Self {
            path,
            dir,
            made: None,
        }
    }

    pub(super) fn apply(&mut self, server: IpAddr) -> Result<Applied, ResolverError> {
        let store = Store::open(&self.dir)?;
        if let Some(journal) = store.load()? {
            undo(&store, &journal)?;
        }
        let present = file::look(&self.path)?;
        let settings = self.settings(&present, server)?;
        let journal = Journal::new(&self.path, &present, &settings.written);
        self.make(&store, &journal, settings)
    }

    pub(super) fn reapply(&mut self) -> Result<Option<Applied>, ResolverError> {
        let Some(made) = &self.made else {
            return Ok(None);
        };
        let store = Store::open(&self.dir)?;
        let (settings, journal) = match (file::look(&self.path)?, store.load()?) {
            (Present::Missing, _) => return Ok(None),
            (Present::File(present), Some(journal)) if journal.wrote(&present.bytes) => {
                if !self.sources_are_there(&journal.former(), made) {
                    return Ok(None);
                }
                let settings = self.settings(&journal.former(), made.server)?;
                let journal = journal.then(&settings.written);
                (settings, journal)
            }
            (present, _) => {
                let settings = self.settings(&present, made.server)?;
                let journal = Journal::new(&self.path, &present, &settings.written);
                return self.make(&store, &journal, settings).map(Some);
            }
        };
        if settings == *made {
            return Ok(None);
        }
        if settings.written != made.written {
            return self.make(&store, &journal, settings).map(Some);
        }
        let applied = settings.applied.clone();
        self.made = Some(settings);
        Ok(Some(applied))
    }

    pub(super) fn restore(&mut self) -> Result<Restored, ResolverError> {
        if self.made.is_none() {
            return Ok(Restored::Nothing);
        }
        let restored = recover(&self.dir)?;
        self.made = None;
        Ok(restored)
    }

    pub(super) fn watch(&self) -> Result<Watch, ResolverError> {
        let store = Store::open(&self.dir)?;
        let former = match store.load()? {
            Some(journal) => journal.former(),
            None => Present::Missing,
        };
        Watch::new(&self.path, self.target(&former).as_deref())
    }

    /// Writes the file, with the journal first.
    fn make(
        &mut self,
        store: &Store,
        journal: &Journal,
        settings: Settings,
    ) -> Result<Applied, ResolverError> {
        let bytes = settings.written.clone();
        let file = match journal.former() {
            Present::File(former) => Content { bytes, ..former },
            Present::Missing | Present::Symlink(_) => Content::new(bytes),
        };
        store.save(journal)?;
        if let Err(source) = file::put(&self.path, &Present::File(file)) {
            undo(store, journal)?;
            return Err(ResolverError::Write {
                path: self.path.clone(),
                source,
            });
        }
        let applied = settings.applied.clone();
        tracing::info!(reason = %applied.choice.reason, "programs ask kdev for names");
        self.made = Some(settings);
        Ok(applied)
    }

    /// Decides what to make of what was there.
    fn settings(&self, former: &Present, server: IpAddr) -> Result<Settings, ResolverError> {
        let (place, bytes) = match former {
            Present::Missing => (Place::Missing, Vec::new()),
            Present::File(content) if file::is_mount_point(&self.path) => {
                (Place::MountedFile, content.bytes.clone())
            }
            Present::File(content) => (Place::File, content.bytes.clone()),
            Present::Symlink(target) => {
                let target = self.path.with_file_name("").join(target);
                // A link that leads nowhere is judged by its text.
                let end = fs::canonicalize(&target).unwrap_or_else(|_| target.clone());
                (Place::Symlink(end), read(&target)?)
            }
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let choice = choose(&ResolverFacts {
            path: self.path.clone(),
            place,
            text: text.clone(),
            uplinks: Path::new(UPLINKS).is_file(),
        });
        let upstreams = match &choice.upstreams {
            Some(path) => String::from_utf8_lossy(&read(path)?).into_owned(),
            None => text.clone(),
        };
        let scope = |device: &str| nix::net::if_::if_nametoindex(device).ok();
        let former = ResolverConfig::parse(&upstreams, Some(server), scope);
        Ok(Settings {
            server,
            written: compose(&text, server, &journal::path(&self.dir)),
            applied: Applied { choice, former },
        })
    }

    /// Whether what the settings were made from can be read again, which it can't while its keeper
    /// is at work or doesn't run.
    fn sources_are_there(&self, former: &Present, made: &Settings) -> bool {
        let upstreams = made.applied.choice.upstreams.as_deref();
        self.target(former).is_none_or(|target| target.is_file())
            && upstreams.is_none_or(Path::is_file)
    }

    /// Where the link leads that was there.
    fn target(&self, former: &Present) -> Option<PathBuf> {
        match former {
            Present::Symlink(target) => Some(self.path.with_file_name("").join(target)),
            Present::File(_) | Present::Missing => None,
        }
    }
}

impl Drop for ResolvConf {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            tracing::warn!(%error, "the resolver's settings stay until the next start");
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ResolverError> {
    file::read(path).map_err(|source| ResolverError::Read {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn recover(dir: &Path) -> Result<Restored, ResolverError> {
    let store = Store::open(dir)?;
    match store.load()? {
        Some(journal) => undo(&store, &journal),
        None => Ok(Restored::Nothing),
    }
}

/// Undoes what the journal says, and forgets it.
fn undo(store: &Store, journal: &Journal) -> Result<Restored, ResolverError> {
    let path = journal.path();
    let former = journal.former();
    file::remove_temporary(&path);
    let present = match file::look(&path) {
        Ok(present) => Some(present),
        // Whoever put a directory there wanted no file of ours.
        Err(ResolverError::NotAFile { .. }) => None,
        Err(error) => return Err(error),
    };
    let restored = if present.as_ref() == Some(&former) {
        Restored::Nothing
    } else if present.is_some_and(|present| is_ours(&present, journal)) {
        file::put(&path, &former).map_err(|source| ResolverError::Restore {
            path: path.clone(),
            journal: store.path().to_owned(),
            source,
        })?;
        Restored::Done
    } else {
        Restored::LeftToOther
    };
    store.clear()?;
    tracing::info!(path = %path.display(), ?restored, "resolver settings undone");
    Ok(restored)
}

/// Whether what is there is what was written, wholly or as far as it came.
fn is_ours(present: &Present, journal: &Journal) -> bool {
    let Present::File(Content { bytes, .. }) = present else {
        return false;
    };
    if journal.wrote(bytes) {
        return true;
    }
    // Only a file is written into in place, and that can be interrupted, both ways.
    let Present::File(Content { bytes: former, .. }) = journal.former() else {
        return false;
    };
    let written = journal.written();
    *bytes == file::half_overwritten(&written, &former)
        || *bytes == file::half_overwritten(&former, &written)
        || written.starts_with(bytes)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
