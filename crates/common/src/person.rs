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
        let machine = gethostname().ok().and_then(|name| name.into_string().ok());
        Self {
            user: name_of(uid).unwrap_or_else(|| uid.to_string()),
            machine: machine.unwrap_or_else(|| "localhost".to_owned()),
        }
    }
}

fn name_of(uid: Uid) -> Option<String> {
    User::from_uid(uid).ok().flatten().map(|user| user.name)
}

/// A user of this machine, for people: `dev (uid 1000)`, and `uid 1000` where it has no name.
pub fn user(uid: u32) -> String {
    match name_of(Uid::from_raw(uid)) {
        Some(name) => format!("{name} (uid {uid})"),
        None => format!("uid {uid}"),
    }
}

/// `user@machine`.
impl std::fmt::Display for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.user, self.machine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_shown_by_name_and_number() {
        assert_eq!(user(0), "root (uid 0)");
        assert_eq!(user(4_000_000_000), "uid 4000000000");
    }
}
