//! Who sits here, for people who look at what was changed.

use nix::unistd::{Uid, User, gethostname};

/// A user of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The user's name; the number where it has none.
    pub user: String,
    /// The machine's name.
    pub machine: String,
}

impl Person {
    /// The user whose process this is.
    pub fn here() -> Self {
        let uid = Uid::effective();
        let user = User::from_uid(uid).ok().flatten();
        let machine = gethostname().ok().and_then(|name| name.into_string().ok());
        Self {
            user: user.map_or_else(|| uid.to_string(), |user| user.name),
            machine: machine.unwrap_or_else(|| "localhost".to_owned()),
        }
    }
}

/// `user@machine`.
impl std::fmt::Display for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.user, self.machine)
    }
}
