//! A machine's DNS settings, in a directory.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kdev_host::resolver::{Applied, ResolvConf};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// A machine's `/etc` and `/var/lib`, in a directory.
pub struct Machine {
    pub dir: TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        Self { dir }
    }

    pub fn with_file(text: &str) -> Self {
        let machine = Self::new();
        fs::write(machine.path(), text).unwrap();
        machine
    }

    pub fn etc(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    pub fn path(&self) -> PathBuf {
        self.etc().join("resolv.conf")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn settings(&self) -> ResolvConf {
        ResolvConf::new(self.path(), self.state())
    }

    /// Makes settings as a daemon that dies without doing anything about them.
    pub fn crash(&self) {
        let mut settings = self.settings();
        apply(&mut settings);
        std::mem::forget(settings);
    }

    pub fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    pub fn lines(&self) -> Vec<String> {
        let text = self.text();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    }

    pub fn inode(&self) -> u64 {
        fs::metadata(self.path()).unwrap().ino()
    }

    pub fn owner_and_mode(&self) -> (u32, u32, u32) {
        let metadata = fs::symlink_metadata(self.path()).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    }

    /// Neither journal nor temporary file.
    pub fn has_nothing_left(&self) {
        assert!(!self.state().join("resolv.conf.json").exists());
        let odd: Vec<_> = fs::read_dir(self.etc())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("kdev"))
            .collect();
        assert_eq!(odd, Vec::<String>::new());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What is mounted can't be removed; one mount may lie beneath another.
        for place in [self.path(), self.etc(), self.path()] {
            while umount2(&place, MntFlags::MNT_DETACH).is_ok() {}
        }
    }
}

pub fn server() -> IpAddr {
    "100.64.0.53".parse().unwrap()
}

pub fn apply(settings: &mut ResolvConf) -> Applied {
    settings.apply(server()).unwrap()
}

pub fn servers(applied: &Applied) -> Vec<String> {
    applied
        .former
        .servers
        .iter()
        .map(ToString::to_string)
        .collect()
}

pub fn bind(source: &Path, target: &Path) {
    let none = None::<&str>;
    mount(Some(source), target, none, MsFlags::MS_BIND, none).unwrap();
}

pub fn make_read_only(dir: &Path) {
    bind(dir, dir);
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let none = None::<&str>;
    mount(none, dir, none, flags, none).unwrap();
}
