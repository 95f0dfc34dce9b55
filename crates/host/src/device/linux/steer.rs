//! The rule of [`steering`](super::super::steering) as the program that the kernel runs for each packet
//! (`TUNSETSTEERINGEBPF`, Linux 4.16).
//!
//! The program gets the packet as it lies at its IP header. A load from behind the packet's end ends it
//! with 0, the first queue.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use super::super::steering::{FINISH, MIX, SEED};

/// Commands and kinds of `linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;

/// The program, loaded.
pub(super) struct Steering(OwnedFd);

impl Steering {
    /// Loads the program.
    ///
    /// # Errors
    ///
    /// Where the kernel has no such programs, or this process may not load one (CAP_BPF).
    pub(super) fn load() -> io::Result<Self> {
        load(&program()).map(Self)
    }

    /// Lets the kernel put packets on the queues of the device of `file` by the rule, as long as the
    /// device is there.
    pub(super) fn attach(self, file: &File) -> io::Result<()> {
        let program = self.0.as_raw_fd();
        // SAFETY: TUNSETSTEERINGEBPF reads one int, which lives through the call.
        let done = unsafe {
            libc::ioctl(
                file.as_raw_fd(),
                libc::TUNSETSTEERINGEBPF,
                &raw const program,
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u8,
    /// The register that is written, and in the upper half the one that is read.
    registers: u8,
    offset: i16,
    value: i32,
}

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`; what follows there may be left out.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let request = Load {
        kind: BPF_PROG_TYPE_SOCKET_FILTER,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0 OR MIT".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads as many bytes as it is told, and what they point to; all of it lives
    // through the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const request,
            mem::size_of::<Load>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Registers: the result, and of those that a load leaves alone the packet's (a load wants it
/// there), the sum, and where the TCP header begins.
const R0: u8 = 0;
const ARGUMENT: u8 = 1;
const PACKET: u8 = 6;
const SUM: u8 = 7;
const HEADER: u8 = 8;
const SCRATCH: u8 = 9;

/// A program whose jumps name places that come later.
#[derive(Default)]
struct Writer {
    instructions: Vec<Instruction>,
}

/// A jump whose target isn't known yet.
#[must_use]
struct Jump(usize);

#[derive(Clone, Copy)]
enum Size {
    Byte,
    Half,
    Word,
}

impl Writer {
    fn emit(&mut self, code: u32, target: u8, source: u8, value: u32) -> usize {
        self.instructions.push(Instruction {
            code: code as u8,
            registers: source << 4 | target,
            offset: 0,
            value: value as i32,
        });
        self.instructions.len() - 1
    }

    /// 32-bit arithmetic with a constant.
    fn with(&mut self, operation: u32, target: u8, value: u32) {
        self.emit(libc::BPF_ALU | operation | libc::BPF_K, target, 0, value);
    }

    /// 32-bit arithmetic with a register.
    fn by(&mut self, operation: u32, target: u8, source: u8) {
        self.emit(libc::BPF_ALU | operation | libc::BPF_X, target, source, 0);
    }

    /// Loads a number of the packet's into the result.
    fn load(&mut self, size: Size, at: u32) {
        let code = libc::BPF_LD | libc::BPF_ABS | size.code();
        self.emit(code, 0, 0, at);
    }

    /// Adds a word, which is the result, to the sum.
    fn mix(&mut self) {
        self.by(libc::BPF_XOR, SUM, R0);
        self.with(libc::BPF_MUL, SUM, MIX);
        // A rotation by half.
        self.by(MOV, SCRATCH, SUM);
        self.with(libc::BPF_RSH, SCRATCH, 16);
        self.with(libc::BPF_LSH, SUM, 16);
        self.by(libc::BPF_OR, SUM, SCRATCH);
    }

    fn jump(&mut self, condition: u32, value: u32) -> Jump {
        Jump(self.emit(libc::BPF_JMP | condition | libc::BPF_K, R0, 0, value))
    }

    /// Lets a jump lead here.
    fn land(&mut self, Jump(at): Jump) {
        self.instructions[at].offset = (self.instructions.len() - at - 1) as i16;
    }

    fn exit(&mut self) {
        self.emit(libc::BPF_JMP | EXIT, 0, 0, 0);
    }
}

impl Size {
    fn code(self) -> u32 {
        match self {
            Self::Byte => libc::BPF_B,
            Self::Half => libc::BPF_H,
            Self::Word => libc::BPF_W,
        }
    }
}

/// What eBPF has beyond the classic instructions.
const MOV: u32 = 0xb0;
const EXIT: u32 = 0x90;
const JUMP_UNEQUAL: u32 = 0x50;
const ALU_64: u32 = 0x07;

fn program() -> Vec<Instruction> {
    let mut to = Writer::default();
    to.emit(ALU_64 | MOV | libc::BPF_X, PACKET, ARGUMENT, 0);
    to.with(MOV, SUM, SEED);
    to.load(Size::Byte, 0);
    to.with(libc::BPF_RSH, R0, 4);
    let not_v4 = to.jump(JUMP_UNEQUAL, 4);
    let mut ends = v4(&mut to);
    to.land(not_v4);
    ends.extend(v6(&mut to));
    ends.into_iter().for_each(|end| to.land(end));
    for (shift, factor) in FINISH {
        to.by(MOV, R0, SUM);
        to.with(libc::BPF_RSH, R0, shift);
        to.by(libc::BPF_XOR, SUM, R0);
        to.with(libc::BPF_MUL, SUM, factor);
    }
    to.by(MOV, R0, SUM);
    to.exit();
    to.instructions
}

/// Sums a packet of IPv4 up; returns the jumps to the end.
fn v4(to: &mut Writer) -> Vec<Jump> {
    for at in [12, 16] {
        to.load(Size::Word, at);
        to.mix();
    }
    to.load(Size::Byte, 9);
    let not_tcp = to.jump(JUMP_UNEQUAL, libc::IPPROTO_TCP as u32);
    to.load(Size::Half, 6);
    to.with(libc::BPF_AND, R0, 0x3fff);
    let is_fragment = to.jump(JUMP_UNEQUAL, 0);
    to.load(Size::Byte, 0);
    to.with(libc::BPF_AND, R0, 0x0f);
    to.with(libc::BPF_LSH, R0, 2);
    to.by(MOV, HEADER, R0);
    to.emit(
        libc::BPF_LD | libc::BPF_IND | Size::Word.code(),
        0,
        HEADER,
        0,
    );
    to.mix();
    vec![not_tcp, is_fragment, to.jump(libc::BPF_JA, 0)]
}

/// The same of IPv6, and of anything else.
fn v6(to: &mut Writer) -> Vec<Jump> {
    let neither = to.jump(JUMP_UNEQUAL, 6);
    for at in (8..40).step_by(4) {
        to.load(Size::Word, at);
        to.mix();
    }
    to.load(Size::Byte, 6);
    let not_tcp = to.jump(JUMP_UNEQUAL, libc::IPPROTO_TCP as u32);
    to.load(Size::Word, 40);
    to.mix();
    vec![neither, not_tcp]
}
