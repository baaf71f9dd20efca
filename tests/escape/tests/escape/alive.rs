//! Rows in which one program looks for what another has while that is still there, or has just left.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use greenroom_escape::{Footprint, Program, within};

use crate::{
    Coded,
    operations::footprint,
    server::{Server, program},
    suite::Suite,
};

pub const ROWS: &[Coded] = &[
    ("cross-session::leftover-process::same-uid", left_for_the_next),
    ("cross-session::sysv-ipc::of-the-host", sysv_ipc_of_the_host),
];

/// Looks for what earlier programs left, long enough to be seen beside it; then leaves daemons under a name of its own:
/// ignoring signals, in sessions of their own, one stopped. Prints its uid, how many it saw and how many it leaves.
const LOOKS_AND_LEAVES: &str = "sleep 0.02
seen=$(grep -l '^left-over' /proc/[0-9]*/comm 2> /dev/null | wc -l)
cp /bin/sleep left-over
for i in 1 2 3 4; do (trap '' HUP TERM INT; setsid ./left-over 60 > /dev/null 2>&1 &); done
while found=($(grep -l '^left-over' /proc/[0-9]*/comm 2> /dev/null)); [ ${#found[@]} -lt 4 ]; do :; done
one=${found[0]#/proc/}; kill -STOP ${one%/comm}
echo \"$(id -u) $seen ${#found[@]}\"";
/// A slot has 16 uids (crates/sandbox/src/runner.rs) and uses them in turn: with two slots, the 33rd program at the latest
/// has an earlier one's.
const PROGRAMS: usize = 36;
/// Nothing of a program lives longer than this after its answer: the kernel ends what it left after its init has told.
const EMPTY_WITHIN: Duration = Duration::from_millis(500);

/// On a server with so few slots and so many programs that each has the slot of an earlier one, and some its very uid.
fn left_for_the_next(_: &Suite) -> Result<()> {
    let small = ["--set", "sandboxes.max=2", "--set", "sandboxes.ready=1", "--set", "admission.max_concurrent=1"];
    Server::during(&small, |server| {
        let footprint = footprint(server)?;
        let (mut earlier, mut met_again) = (BTreeSet::new(), 0);
        for turn in 0..PROGRAMS {
            let (said, looks) = while_watched(server, &footprint)?;
            let words: Vec<u32> = said.split(' ').map(str::parse).collect::<Result<_, _>>().context(said.clone())?;
            let [uid, seen, left] = words[..] else { bail!("not three numbers: {said}") };
            ensure!(left == 4, "turn {turn}: the program left {left} processes, not 4");
            ensure!(seen == 0, "turn {turn}: the program saw {seen} of another's");
            // Seen from the host: a pid namespace of its own would hide from the program what is there.
            let begun = looks.iter().skip_while(|look| !look.iter().any(|program| program.uid == uid));
            // A slot's uids are every second one: its earlier program has ended before this one began.
            let others = begun.skip(1).flatten().filter(|program| program.uid != uid && program.uid % 2 == uid % 2);
            let beside: Vec<_> = others.collect();
            ensure!(beside.is_empty(), "turn {turn}: {beside:?} lived beside the slot's next program, of uid {uid}");
            met_again += usize::from(!earlier.insert(uid));
        }
        ensure!(met_again > 0, "no program had the uid of an earlier one: nothing was tested");
        within(EMPTY_WITHIN, || {
            let left = footprint.programs();
            if left.is_empty() { Ok(()) } else { bail!("{EMPTY_WITHIN:?} after the last answer there are {left:?}") }
        })
    })
}

/// Runs one, and looks from the host at all programs that there are, again and again until it is answered.
fn while_watched(server: &Server, footprint: &Footprint) -> Result<(String, Vec<Vec<Program>>)> {
    std::thread::scope(|scope| {
        let said = scope.spawn(|| server.stdout_of(&program("bash", LOOKS_AND_LEAVES)));
        let mut looks = Vec::new();
        while !said.is_finished() {
            // The row's programs are all of bash: a python3 is a warm interpreter's child that is not yet ready to wait.
            looks.push(footprint.programs().into_iter().filter(|program| program.name != "python3").collect());
        }
        Ok((said.join().map_err(|_| anyhow!("the client panicked"))??, looks))
    })
}

/// The keys and the type of permissions that everybody may use. Says `ready`, stays until its input ends, and removes them.
const HOLDER: &str = "
import ctypes, sys
c = ctypes.CDLL(None, use_errno=True)
made = [c.shmget(0x4242, 4096, 0o1666), c.semget(0x4242, 1, 0o1666), c.msgget(0x4242, 0o1666)]
print('ready' if min(made) >= 0 else f'not made: {made} {ctypes.get_errno()}', flush=True)
sys.stdin.read()
for remove, number, arguments in [(c.shmctl, made[0], (0, None)), (c.semctl, made[1], (0, 0)), (c.msgctl, made[2], (0, None))]:
    if number >= 0: remove(number, *arguments)
";

/// Looks by key, by number and in /proc. Prints what it sees.
const SEEKER: &str = r#"
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
int main(void) {
    if (shmget(0x4242, 0, 0) >= 0) puts("memory");
    if (semget(0x4242, 0, 0) >= 0) puts("semaphore");
    if (msgget(0x4242, 0) >= 0) puts("queue");
    struct shmid_ds m; struct semid_ds s; struct msqid_ds q;
    for (int id = 0; id < 32768; id++) {
        if (shmctl(id, IPC_STAT, &m) == 0 || shmctl(id, SHM_STAT, &m) == 0) printf("memory %d\n", id);
        if (semctl(id, 0, IPC_STAT, &s) == 0) printf("semaphore %d\n", id);
        if (msgctl(id, IPC_STAT, &q) == 0) printf("queue %d\n", id);
    }
    const char *lists[] = {"/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg"};
    for (int i = 0; i < 3; i++) {
        char line[512]; FILE *list = fopen(lists[i], "r");
        for (int n = 0; list && fgets(line, sizeof line, list); n++) if (n) printf("%s: %s", lists[i], line);
    }
    puts("end");
}
"#;

/// Programs can make none, so it is the host that has what must not be seen.
fn sysv_ipc_of_the_host(suite: &Suite) -> Result<()> {
    let seek = |server: &Server| server.stdout_of(&program("c", &format!("#define _GNU_SOURCE\n{SEEKER}")));
    let holder = Holder::start()?;
    let lists = ["shm", "sem", "msg"].map(|list| std::fs::read_to_string(format!("/proc/sysvipc/{list}")).unwrap_or_default());
    let key = 0x4242.to_string();
    let there = lists.iter().filter(|list| list.split_whitespace().any(|word| word == key)).count();
    let seen = seek(&suite.server);
    holder.stop()?;
    ensure!(there == 3, "the host's own are not there to be seen: {lists:?}");
    let seen = seen?;
    ensure!(seen == "end", "the program saw: {seen}");
    Ok(())
}

/// A process of the host that has System V objects for as long as it runs.
struct Holder {
    process: Child,
    input: ChildStdin,
}

impl Holder {
    fn start() -> Result<Self> {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", HOLDER]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = python.spawn().context("/usr/bin/python3 cannot be started")?;
        let input = process.stdin.take().context("no stdin")?;
        let mut said = String::new();
        BufReader::new(process.stdout.take().context("no stdout")?).read_line(&mut said)?;
        let holder = Self { process, input };
        if said.trim() == "ready" { Ok(holder) } else { holder.stop().and(Err(anyhow!("System V objects of the host: {said}"))) }
    }

    /// The end of its input is its sign to remove them.
    fn stop(mut self) -> Result<()> {
        self.input.flush()?;
        drop(self.input);
        let status = self.process.wait()?;
        ensure!(status.success(), "the holder of System V objects ended with {status}");
        Ok(())
    }
}
