//! What comes with an intercept, in the words of the command and in those of the cluster.

use kdev_cluster::redirect::Mode;
use kdev_proto::v1::InterceptMode;

/// As the cluster has it.
pub fn in_cluster(mode: InterceptMode) -> Mode {
    match mode {
        InterceptMode::Unspecified => Mode::Intercept,
        InterceptMode::Replace => Mode::Replace,
        InterceptMode::Preview => Mode::Preview,
        InterceptMode::Wiretap => Mode::Wiretap,
    }
}

/// As the command has it.
pub fn in_command(mode: Mode) -> InterceptMode {
    match mode {
        Mode::Intercept => InterceptMode::Unspecified,
        Mode::Replace => InterceptMode::Replace,
        Mode::Preview => InterceptMode::Preview,
        Mode::Wiretap => InterceptMode::Wiretap,
    }
}
