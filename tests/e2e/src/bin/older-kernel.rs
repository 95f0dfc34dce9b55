//! Runs a program as on a kernel that knows less of TUN devices: `older-kernel WHAT PROGRAM...`.

use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Flags of TUNSETOFFLOAD.
const CSUM: u64 = libc::TUN_F_CSUM as u64;
const TSO4: u64 = libc::TUN_F_TSO4 as u64;
const TSO6: u64 = libc::TUN_F_TSO6 as u64;

/// Where an `ioctl`'s request is among its arguments, and what comes with it.
const REQUEST: u8 = 1;
const ARGUMENT: u8 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1);
    let (Some(what), Some(program)) = (words.next(), words.next()) else {
        return Err("older-kernel tso6|tso|offloads|steering PROGRAM...".into());
    };
    let rules = match what.to_str() {
        Some("tso6") => vec![offload(TSO6)?],
        Some("tso") => vec![offload(TSO6)?, offload(TSO4)?],
        Some("offloads") => vec![offload(CSUM)?],
        Some("steering") => vec![SeccompRule::new(vec![request(libc::TUNSETSTEERINGEBPF)?])?],
        _ => return Err(format!("a kernel without {what:?}?").into()),
    };
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_ioctl, rules)]),
        SeccompAction::Allow,
        // What a kernel says to what it doesn't know.
        SeccompAction::Errno(libc::EINVAL.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?;
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    Err(Command::new(program).args(words).exec().into())
}

/// TUNSETOFFLOAD with this flag.
fn offload(flag: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let with = SeccompCmpOp::MaskedEq(flag);
    let with = SeccompCondition::new(ARGUMENT, SeccompCmpArgLen::Qword, with, flag)?;
    SeccompRule::new(vec![request(libc::TUNSETOFFLOAD)?, with])
}

fn request(of: libc::Ioctl) -> Result<SeccompCondition, seccompiler::BackendError> {
    // A request has 32 bits, however it was handed over.
    let of = u64::from(of as u32);
    SeccompCondition::new(REQUEST, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, of)
}
