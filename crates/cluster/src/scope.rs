//! Where the traces of sessions are looked for.

use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};

use crate::client::{ApiError, ApiFailure};

/// Whose traces, and where.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The namespace of the traffic manager whose sessions made them.
    pub manager: &'a str,
    /// The only namespace to look in; `None` for all.
    pub namespace: Option<&'a str>,
}

impl<'a> Scope<'a> {
    /// All namespaces.
    pub fn everywhere(manager: &'a str) -> Self {
        Self {
            manager,
            namespace: None,
        }
    }

    /// The objects of one kind there.
    pub(crate) fn api<K>(self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    }
}

/// What was found, and what may not be looked at.
#[derive(Debug)]
pub struct Found<T> {
    /// What was found.
    pub found: T,
    /// The refusals of those looks that the user may not take.
    pub unseen: Vec<ApiError>,
}

impl<T> Found<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        Found {
            found: change(self.found),
            unseen: self.unseen,
        }
    }

    /// Both, and what of either may not be looked at.
    pub(crate) fn and<U>(self, other: Found<U>) -> Found<(T, U)> {
        Found {
            found: (self.found, other.found),
            unseen: self.unseen.into_iter().chain(other.unseen).collect(),
        }
    }

    /// What was found, where all could be looked at.
    ///
    /// # Errors
    ///
    /// The first refusal.
    pub fn all(self) -> Result<T, ApiError> {
        match self.unseen.into_iter().next() {
            Some(refused) => Err(refused),
            None => Ok(self.found),
        }
    }
}

/// What a list has, and nothing where it may not be looked at, which is remembered in `unseen`.
pub(crate) fn seen<T: Default>(
    listed: Result<T, ApiError>,
    unseen: &mut Vec<ApiError>,
) -> Result<T, ApiError> {
    match listed {
        Err(refused) if matches!(refused.failure, ApiFailure::Forbidden(_)) => {
            unseen.push(refused);
            Ok(T::default())
        }
        listed => listed,
    }
}
