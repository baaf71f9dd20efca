//! The system call filter: an allow-list, compiled to a binary search over ranges of numbers.
//!
//! Anything not listed answers ENOSYS, as on an older kernel, so that programs fall back; what a program may
//! reasonably try and must not have answers EPERM. A wrong architecture kills. Arguments are compared in their
//! low 32 bits only, because the kernel itself reads an `int` argument so: a 64-bit compare of `socket(2)`'s
//! family is passed by `0x1_0000_0028` (`contracts`: finding 5).
//!
//! Why a search and not a chain: the kernel runs a new filter once per system call number when it is installed
//! (to learn which are always allowed), so its length is paid at every sandbox: 500 instructions cost 0.4 ms, a
//! search over the same set a fifth of that.

mod rules;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Write},
};

use libc::sock_filter;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use self::rules::{Action, Condition, ENOSYS, EPERM, ONLY_LOCAL, RULES};

/// The rules as text, with their reasons, for those who want to check them.
pub(crate) fn describe() -> String {
    let lines = RULES.iter().map(|rule| format!("{:?} {:?}\n    {}\n", rule.action, rule.calls, rule.reason));
    lines.chain(["every other call: ENOSYS; another architecture: killed\n".to_owned()]).collect()
}

/// A filter in a file of its own, as the kernel takes it: for programs that are not ours to hand memory to.
pub(crate) fn file(program: &[sock_filter]) -> io::Result<File> {
    let mut bytes = Vec::with_capacity(size_of_val(program));
    for line in program {
        bytes.extend_from_slice(&line.code.to_ne_bytes());
        bytes.extend_from_slice(&[line.jt, line.jf]);
        bytes.extend_from_slice(&line.k.to_ne_bytes());
    }
    let mut file = File::from(memfd_create("filter", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(&bytes)?;
    // Every sandbox gets the same one.
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file)
}

/// What every call number does, sorted; numbers in between answer ENOSYS.
fn table() -> Vec<(u32, Action)> {
    let mut table: Vec<(u32, Action)> = RULES
        .iter()
        .flat_map(|rule| rule.calls.iter().map(|&call| (u32::try_from(call).unwrap_or(u32::MAX), rule.action)))
        .collect();
    table.sort_by_key(|&(call, _)| call);
    table
}

/// Ranges that cover all numbers: each starts at its number and ends before the next one.
fn ranges(local_only: bool) -> Vec<(u32, Action)> {
    let mut ranges = vec![(0, Action::Errno(ENOSYS))];
    let mut next = 0;
    let mut push = |start: u32, action: Action| match ranges.last_mut() {
        Some(last) if last.1 == action => {}
        Some(last) if last.0 == start => last.1 = action,
        _ => ranges.push((start, action)),
    };
    for (call, action) in table() {
        let socket = local_only && i64::from(call) == libc::SYS_socket;
        let action = if socket { Action::If(ONLY_LOCAL) } else { action };
        if call > next {
            push(next, Action::Errno(ENOSYS));
        }
        push(call, action);
        next = call + 1;
    }
    push(next, Action::Errno(ENOSYS));
    ranges
}

// Offsets in struct seccomp_data (seccomp(2)).
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

// linux/bpf_common.h; an instruction's code has 16 bits.
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const JUMP_EQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA

fn op(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn errno(errno: u32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno
}

/// The filter, ready to install.
///
/// `local_only`: no internet sockets either, for where no network namespace stands before the host's network.
pub(crate) fn program(local_only: bool) -> Vec<sock_filter> {
    let mut program = vec![op(LOAD, ARCH), branch(JUMP_EQ, NATIVE, 1, 0), op(RETURN, libc::SECCOMP_RET_KILL_PROCESS), op(LOAD, NR)];
    program.extend(resolve(&search(&ranges(local_only))));
    program
}

/// An instruction, and what it answers at once where it is a jump that decides: the answers are shared, and stand at the end.
struct Line {
    is: sock_filter,
    yes: Option<u32>,
    no: Option<u32>,
}

impl From<sock_filter> for Line {
    fn from(is: sock_filter) -> Self {
        Self { is, yes: None, no: None }
    }
}

/// Puts the answers behind the search, each once: half as many instructions to compile as with one for every range.
fn resolve(lines: &[Line]) -> Vec<sock_filter> {
    let mut answers: Vec<u32> = lines.iter().flat_map(|line| [line.yes, line.no]).flatten().collect();
    answers.sort_unstable();
    answers.dedup();
    let distance = |from: usize, answer: Option<u32>, within: u8| match answer {
        None => Some(within),
        Some(answer) => {
            let place = answers.iter().position(|other| *other == answer)?;
            u8::try_from(lines.len() + place - from - 1).ok()
        }
    };
    let placed = lines.iter().enumerate().map(|(from, line)| {
        let is = line.is;
        match (distance(from, line.yes, is.jt), distance(from, line.no, is.jf)) {
            (Some(yes), Some(no)) => branch(is.code, is.k, yes, no),
            // Too far. A table as long as that fails its tests; no program gets a call that it should not have.
            _ => op(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        }
    });
    placed.chain(answers.iter().map(|answer| op(RETURN, *answer))).collect()
}

fn search(ranges: &[(u32, Action)]) -> Vec<Line> {
    if let [(_, action)] = ranges {
        return leaf(*action).into_iter().map(Line::from).collect();
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let pivot = high[0].0;
    let side = |ranges: &[(u32, Action)]| match ranges {
        [(_, Action::Allow)] => (Some(libc::SECCOMP_RET_ALLOW), Vec::new()),
        [(_, Action::Errno(number))] => (Some(errno(*number)), Vec::new()),
        ranges => (None, search(ranges)),
    };
    let ((no, low), (yes, high)) = (side(low), side(high));
    let mut code = Vec::with_capacity(low.len() + high.len() + 2);
    // A conditional jump reaches 255 instructions; further ones go by way of an unconditional one.
    match u8::try_from(low.len()) {
        Ok(distance) => code.push(Line { is: branch(JUMP_GE, pivot, distance, 0), yes, no }),
        Err(_) => {
            code.push(Line { is: branch(JUMP_GE, pivot, 0, 1), yes, no });
            code.push(op(JUMP, u32::try_from(low.len()).unwrap_or(u32::MAX)).into());
        }
    }
    code.extend(low);
    code.extend(high);
    code
}

fn leaf(action: Action) -> Vec<sock_filter> {
    match action {
        Action::Allow => vec![op(RETURN, libc::SECCOMP_RET_ALLOW)],
        Action::Errno(number) => vec![op(RETURN, errno(number))],
        Action::If(Condition::NoBits(arg, bits)) => vec![
            op(LOAD, ARGS + 8 * arg),
            branch(JUMP_SET, bits, 0, 1),
            op(RETURN, errno(EPERM)),
            op(RETURN, libc::SECCOMP_RET_ALLOW),
        ],
        Action::If(Condition::OneOf(arg, values, refused)) => one_of(arg, values, libc::SECCOMP_RET_ALLOW, errno(refused)),
        Action::If(Condition::NoneOf(arg, values)) => one_of(arg, values, errno(EPERM), libc::SECCOMP_RET_ALLOW),
    }
}

/// `found` if the argument is one of a few values, `otherwise` if not.
fn one_of(arg: u32, values: &[u32], found: u32, otherwise: u32) -> Vec<sock_filter> {
    let mut code = vec![op(LOAD, ARGS + 8 * arg)];
    for (before, &value) in values.iter().enumerate() {
        let to_found = u8::try_from(values.len() - before).unwrap_or(u8::MAX);
        code.push(branch(JUMP_EQ, value, to_found, 0));
    }
    code.push(op(RETURN, otherwise));
    code.push(op(RETURN, found));
    code
}
