//! kdev beside the kernel, `kubectl port-forward`, sshuttle and nginx: the same work, on one machine, in one
//! run.

pub mod background;
pub mod contender;
pub mod document;
pub mod goals;
mod idle;
mod inside;
mod intercepts;
pub mod load;
pub mod machine;
pub mod measure;
mod nginx;
pub mod plan;
pub mod process;
pub mod record;
pub mod router;
pub mod run;
pub mod scene;
pub mod sshuttle;
pub mod table;
pub mod way;
pub mod work;
