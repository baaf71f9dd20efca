use super::{rules::*, *};

/// Runs the filter as the kernel would.
fn decide(program: &[sock_filter], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        NR => nr,
        ARCH => arch,
        _ => {
            let arg = args[((offset - ARGS) / 8) as usize];
            u32::try_from(arg & 0xffff_ffff).unwrap()
        }
    };
    let (mut at, mut accumulator) = (0usize, 0u32);
    loop {
        let ins = program[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { ins.jt } else { ins.jf });
        match ins.code {
            LOAD => accumulator = word(ins.k),
            RETURN => return ins.k,
            JUMP => at += ins.k as usize,
            JUMP_EQ => at += jump(accumulator == ins.k),
            JUMP_GE => at += jump(accumulator >= ins.k),
            JUMP_SET => at += jump(accumulator & ins.k != 0),
            code => panic!("unknown instruction {code:#x}"),
        }
    }
}

fn call(nr: i64, args: [u64; 6]) -> u32 {
    decide(&program(false), NATIVE, u32::try_from(nr).unwrap(), args)
}

#[test]
fn every_number_does_what_the_table_says_and_all_others_are_unknown() {
    let table = table();
    for (program, nr) in [false, true].into_iter().flat_map(|local_only| (0..1024).map(move |nr| (program(local_only), nr))) {
        let expected = match table.iter().find(|&&(call, _)| call == nr) {
            None => errno(ENOSYS),
            Some((_, Action::Allow)) => libc::SECCOMP_RET_ALLOW,
            Some((_, Action::Errno(number))) => errno(*number),
            Some((_, Action::If(_))) => continue,
        };
        assert_eq!(decide(&program, NATIVE, nr, [0; 6]), expected, "system call {nr}");
    }
}

#[test]
fn a_call_stands_in_one_rule_only_and_every_rule_has_a_reason() {
    for pair in table().windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "system call {} stands in two rules", pair[0].0);
    }
    assert!(RULES.iter().all(|rule| !rule.reason.is_empty()));
}

#[test]
fn high_bits_of_an_argument_change_nothing() {
    for high in [0u64, 1 << 32, 0xffff_ffff << 32] {
        assert_eq!(call(libc::SYS_socket, [high | 40, 1, 0, 0, 0, 0]), errno(EAFNOSUPPORT));
        assert_eq!(call(libc::SYS_socket, [high | 2, 1, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(call(libc::SYS_ioctl, [0, high | 0x5412, 0, 0, 0, 0]), errno(EPERM));
        assert_eq!(call(libc::SYS_clone, [high | 0x1000_0000, 0, 0, 0, 0, 0]), errno(EPERM));
    }
}

#[test]
fn threads_work_and_namespaces_do_not() {
    let thread_flags = 0x003d_0f00;
    assert_eq!(call(libc::SYS_clone, [thread_flags, 0, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
    assert_eq!(call(libc::SYS_clone3, [0; 6]), errno(ENOSYS));
    assert_eq!(call(libc::SYS_unshare, [0x1000_0000, 0, 0, 0, 0, 0]), errno(EPERM));
    assert_eq!(call(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
    assert_eq!(call(libc::SYS_personality, [0x0040_0000, 0, 0, 0, 0, 0]), errno(EPERM));
}

#[test]
fn without_a_network_namespace_only_local_sockets_are_left() {
    let socket = |family| decide(&program(true), NATIVE, u32::try_from(libc::SYS_socket).unwrap(), [family, 1, 0, 0, 0, 0]);
    assert_eq!(socket(1), libc::SECCOMP_RET_ALLOW);
    assert_eq!(socket(2), errno(EAFNOSUPPORT));
}

#[test]
fn another_architecture_is_killed_and_x32_is_unknown() {
    assert_eq!(decide(&program(false), 0x4000_0003, 1, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    assert_eq!(decide(&program(false), NATIVE, 0x4000_0000, [0; 6]), errno(ENOSYS));
}

#[test]
fn the_filter_is_short_because_its_length_is_paid_per_sandbox() {
    let len = program(false).len();
    assert!(len < 150, "{len} instructions");
}
