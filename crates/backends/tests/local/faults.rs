//! Kernels that do less than ours: a filter in front of the whole suite (seccomp(2)) has a system call fail.

use greenroom_backends::Local;
use libtest_mimic::Failed;

use crate::{job, only, sh, text};

/// Says to a run of this suite that there is no way back.
const NO_WAY_BACK: &str = "GREENROOM_TEST_NO_WAY_BACK";

/// A command that starts another one behind a filter of classic BPF: triples of operation, jumps and value.
fn behind(rules: &str) -> [String; 3] {
    let start = format!(
        "import ctypes, os, struct, sys
libc, rules = ctypes.CDLL(None, use_errno=True), {rules}
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(rules), ctypes.addressof(code)))
for call in ((38, 1, 0, 0, 0), (22, 2, program, 0, 0)):
    if libc.prctl(*call) != 0: sys.exit('prctl: %d' % ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])"
    );
    ["/usr/bin/python3".into(), "-c".into(), start]
}

/// landlock_create_ruleset answers ENOSYS.
pub fn without_landlock() -> [String; 3] {
    behind("[(0x20, 0, 0, 0), (0x15, 0, 1, 444), (6, 0, 0, 0x50026), (6, 0, 0, 0x7FFF0000)]")
}

/// setns answers EPERM where it is asked for a mount namespace by a descriptor below 30: so low are those that a slot was born with, its
/// own mount namespace's among them, and not that of a sandbox.
pub fn without_a_way_back() -> Vec<String> {
    let setns = if cfg!(target_arch = "x86_64") { 308 } else { 268 };
    let rules = format!(
        "[(0x20, 0, 0, 0), (0x15, 0, 5, {setns}), (0x20, 0, 0, 24), (0x15, 0, 3, 0x20000), (0x20, 0, 0, 16), (0x35, 1, 0, 30), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)]"
    );
    [vec!["/usr/bin/env".into(), format!("{NO_WAY_BACK}=1")], behind(&rules).into()].concat()
}

/// Whether this run of the suite is one without a way back.
pub fn has_no_way_back() -> bool {
    std::env::var_os(NO_WAY_BACK).is_some()
}

pub async fn a_slot_that_cannot_leave_a_sandboxs_mounts_is_used_no_more(local: Local) -> Result<(), Failed> {
    for turn in 0..5 {
        let two = job(vec![sh("echo secret > file; cp file /tmp"), sh("cat file")]);
        // It may have come to its end before its slot did.
        if let Ok(finished) = local.run(two).await {
            assert_ne!(text(&finished.outcome.stages[1].output.stdout), "secret\n", "turn {turn}: there is a way back");
        }
        for _ in 0..10 {
            let finished = local.run(job(vec![sh("ls -A . /tmp /dev/shm; echo end")])).await?;
            assert_eq!(text(&only(&finished).output.stdout), ".:\n\n/dev/shm:\n\n/tmp:\nend\n", "turn {turn}");
        }
    }
    Ok(())
}
