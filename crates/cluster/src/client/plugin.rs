//! Credential plugins: what is told of one that isn't there, fails, or doesn't come to an end.

use std::fs;
use std::io;
use std::path::Path;

use kube::client::AuthError;
use kube::config::ExecConfig;

use super::ConnectError;
use super::failure::{ApiFailure, classify};

/// A credential plugin, as a user of the kubeconfig has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plugin {
    user: String,
    command: String,
    /// What its author says to those who lack it.
    hint: Option<String>,
}

impl Plugin {
    pub(super) fn new(user: &str, exec: &ExecConfig) -> Self {
        let hint = exec.install_hint.as_deref().map(on_one_line);
        Self {
            user: user.to_owned(),
            command: exec.command.clone().unwrap_or_default(),
            hint: hint.filter(|hint| !hint.is_empty()),
        }
    }

    /// What an `auth-provider`, plugins' predecessor, runs: the library alone knows its command.
    pub(super) fn of_provider(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            command: String::new(),
            hint: None,
        }
    }

    /// What the client's error says of the plugin; `None` if it is about something else.
    pub(super) fn failed(&self, error: &kube::Error) -> Option<ConnectError> {
        let (user, command) = (self.user.clone(), self.command.clone());
        if let kube::Error::Auth(AuthError::AuthExecStart(source)) = error
            && source.kind() == io::ErrorKind::NotFound
        {
            return Some(ConnectError::PluginMissing {
                user,
                command,
                hint: self.hint.clone(),
            });
        }
        match classify(error) {
            ApiFailure::Credentials { message } => Some(ConnectError::PluginFailed {
                user,
                command,
                message,
            }),
            _ => None,
        }
    }

    /// What is told when it has run for `seconds`. Blocks on the file system.
    pub(super) fn outstayed(&self, seconds: u64) -> ConnectError {
        ConnectError::PluginTimedOut {
            user: self.user.clone(),
            command: self.command.clone(),
            process: self.process(),
            seconds,
        }
    }

    /// The plugin's process among this one's children, where the system shows them (Linux's `/proc`): the library that
    /// started it tells nobody.
    fn process(&self) -> Option<u32> {
        let entries = fs::read_dir("/proc").ok()?;
        let mut pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.find(|pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            parent(&stat) == Some(std::process::id()) && runs(&line, &self.command)
        })
    }
}

/// The parent's process in a line of proc_pid_stat(5): the second field after the program's name, which stands in parentheses and may
/// hold any itself.
fn parent(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Whether a command line, its words ended by NUL, is one of `command`: that is its first word, or the second where
/// the first is a script's interpreter.
fn runs(line: &[u8], command: &str) -> bool {
    let name = |path: &str| Path::new(path).file_name().map(ToOwned::to_owned);
    let mut words = line.split(|&byte| byte == 0).take(2);
    words.any(|word| {
        std::str::from_utf8(word).is_ok_and(|word| !word.is_empty() && name(word) == name(command))
    })
}

/// The lines of a hint as parts of one sentence.
fn on_one_line(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.trim().trim_end_matches('.'))
        .filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(hint: &str) -> Plugin {
        let exec = ExecConfig {
            command: Some("corp-login".to_owned()),
            install_hint: Some(hint.to_owned()),
            ..ExecConfig::default()
        };
        Plugin::new("alice", &exec)
    }

    fn missing(plugin: &Plugin) -> String {
        let error = AuthError::AuthExecStart(io::ErrorKind::NotFound.into());
        plugin
            .failed(&kube::Error::Auth(error))
            .unwrap()
            .to_string()
    }

    #[test]
    fn a_plugin_that_is_not_there_is_told_with_its_authors_hint() {
        let text = missing(&plugin(
            "corp-login isn't installed.\n\nGet it with `corp get login`.\n",
        ));
        assert_eq!(
            text,
            "can't get credentials for user \"alice\": the credential plugin \"corp-login\" isn't there. \
             Install it; its author says: corp-login isn't installed; Get it with `corp get login`"
        );
    }

    #[test]
    fn without_a_hint_it_is_said_where_the_plugin_was_looked_for() {
        assert!(missing(&plugin(" \n")).ends_with(
            "isn't there. Install it into a directory of PATH, or correct its command in the kubeconfig"
        ));
    }

    #[test]
    fn a_plugin_that_may_not_be_started_is_not_told_as_missing() {
        let error = AuthError::AuthExecStart(io::ErrorKind::PermissionDenied.into());
        let told = plugin("get it").failed(&kube::Error::Auth(error)).unwrap();
        assert!(
            matches!(told, ConnectError::PluginFailed { .. }),
            "{told:?}"
        );
    }

    #[test]
    fn a_command_line_is_the_plugins_by_its_first_words() {
        let table: [(&[u8], &str, bool); 7] = [
            (b"corp-login\0get\0", "corp-login", true),
            (b"/usr/bin/corp-login\0get\0", "corp-login", true),
            (b"/bin/sh\0/usr/bin/corp-login\0get\0", "corp-login", true),
            (b"./corp-login\0", "/home/alice/corp-login", true),
            (b"sh\0-c\0corp-login\0", "corp-login", false),
            (b"corp-login2\0", "corp-login", false),
            (b"", "corp-login", false),
        ];
        for (line, command, is_it) in table {
            let shown = String::from_utf8_lossy(line);
            assert_eq!(runs(line, command), is_it, "{shown:?}, {command}");
        }
    }

    #[test]
    fn a_parent_is_read_whatever_the_program_is_called() {
        assert_eq!(parent("12 (corp-login) S 7 12 7 0 -1\n"), Some(7));
        assert_eq!(parent("12 (a) S 9 (b)) R 7 12\n"), Some(7));
        assert_eq!(parent("12 (corp-login"), None);
        assert_eq!(parent(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_of_a_plugin_that_runs_is_found() {
        use std::io::{BufRead as _, BufReader};
        use std::process::{Command, Stdio};

        // A shell by a name that no other test's child has.
        let dir = tempfile::tempdir().unwrap();
        let command = dir.path().join("corp-login-that-waits");
        std::os::unix::fs::symlink("/bin/sh", &command).unwrap();
        let mut child = Command::new(&command)
            .args(["-c", "echo runs; read answer"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "runs\n");

        let exec = ExecConfig {
            command: Some(command.display().to_string()),
            ..ExecConfig::default()
        };
        let told = Plugin::new("alice", &exec).outstayed(60).to_string();
        let pid = child.id();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(told.contains(&format!("as process {pid}")), "{told}");
        assert!(told.contains(&format!("`kill {pid}`")), "{told}");
        assert_eq!(plugin("").process(), None);
    }
}
